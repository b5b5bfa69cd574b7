"""A merged token classifier that finds entities in texts, for prediction and redaction."""

import re
from collections.abc import Iterator
from pathlib import Path

from scripts.common.base_model import four_bit, load_tokenizer
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json
from scripts.common.garbage import collect_as_usual
from scripts.common.number_format import precision_of_answers, torch_dtype
from scripts.predict.batches import batches_by_length
from scripts.train.span_alignment import (
    OUTSIDE,
    TokenizedText,
    encode_text,
    entities_of_labels,
    special_frame,
    windows,
)

# Thai, Lao, Burmese, Khmer, Japanese and Chinese have no spaces: a run of their characters is not one word.
WORD = re.compile(r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]+")
NF4 = {"quant_type": "nf4", "double_quant": True}  # for a 4-bit backbone that was not trained in 4 bits


class SpanModel:
    """The classifier of a `merged` folder; the backbone in training.precision, the head in float32, as in training.

    Texts are read in windows of tokens.max_length tokens that overlap by tokens.window_overlap; each token is scored
    once, in the window with the most context before it. On a CPU each window is a batch of its own, at no cost, so that
    the result for a text does not depend on other texts. The settings also have generation.batch_size and
    generation.load_in_4bit: yes, no, or auto (as in training).
    """

    def __init__(self, manifest: Path, settings: dict):
        import torch
        from transformers import AutoModelForTokenClassification

        from scripts.train.classifier_head import HEAD_CONFIG, load_head

        manifest = Path(manifest)
        facts, folder = check_manifest(manifest), manifest.parent
        if not (folder / HEAD_CONFIG).is_file():
            raise UserError(
                "is not a token classifier", folder, remedy="use the merged folder of a token classification run"
            )
        config = read_json(folder / HEAD_CONFIG)
        precision = precision_of_answers(settings["training"]["precision"], config["precision"])
        self.max_length, self.overlap = settings["tokens"]["max_length"], settings["tokens"]["window_overlap"]
        self.batch_size, load_in_4bit = settings["generation"]["batch_size"], settings["generation"]["load_in_4bit"]
        self.windows_at_once = self.batch_size if torch.cuda.is_available() else 1
        self.tokenizer = load_tokenizer(manifest)
        self.frame = special_frame(self.tokenizer)
        reduced = NF4 if load_in_4bit == "yes" else config["load_in_4bit"] if load_in_4bit == "auto" else None
        collect_as_usual()
        model = AutoModelForTokenClassification.from_pretrained(
            folder,
            dtype=torch_dtype(precision),
            quantization_config=four_bit(reduced, precision) if reduced else None,
            device_map={"": 0 if torch.cuda.is_available() else "cpu"},
            use_safetensors=True,
            trust_remote_code=facts.get("trust_remote_code", False),
        )
        index = read_json(folder / "model.safetensors.index.json")
        self.device = model.device
        self.backbone = model.base_model.eval()
        self.head = load_head(folder / index["weight_map"]["score.weight"]).to(self.device)
        self.tags: list[str] = config["labels"]

    @property
    def labels(self) -> list[str]:
        """The sorted entity labels of the model."""
        return sorted({tag[2:] for tag in self.tags if tag != OUTSIDE})

    def entities(self, texts: list[str]) -> list[list[list]]:
        """Return the sorted entities [start, end, label, score] of each text; offsets in characters."""
        found: list[list[list]] = [[] for _ in texts]
        tokens = [self.encode(text) for text in texts]
        for batch in self.batches(tokens):
            parts = [texts[i] for i in batch], [tokens[i] for i in batch]
            for number, entities in zip(batch, self.entities_of(*parts), strict=True):
                found[number] = entities
        return found

    def encode(self, text: str) -> TokenizedText:
        """Return a text's tokens without special ones."""
        return encode_text(self.tokenizer, text)

    def batches(self, tokens: list[TokenizedText]) -> list[list[int]]:
        """Return batches of texts of similar length, as `batches_by_length`."""
        return batches_by_length([len(text.ids) for text in tokens], self.batch_size)

    def entities_of(self, texts: list[str], tokens: list[TokenizedText]) -> list[list[list]]:
        """Return the entities of one batch of texts; on a GPU `batch_size` windows are processed at once.

        All tokens of a word get one label and score (see `labels_of_words`); an entity's score is the mean over its
        tokens.
        """
        import torch

        before, after = self.frame
        capacity = self.max_length - len(before) - len(after)
        cuts = [
            (i, window) for i, text in enumerate(tokens) for window in windows(len(text.ids), capacity, self.overlap)
        ]
        probabilities: list[list] = [[] for _ in tokens]
        for start in range(0, len(cuts), self.windows_at_once):
            part = cuts[start : start + self.windows_at_once]
            rows = [[*before, *tokens[i].ids[window.start : window.end], *after] for i, window in part]
            for (i, window), row in zip(part, self.classify(rows), strict=True):
                first = len(before) - window.start
                probabilities[i].append(row[first + window.owned : first + window.end])
        return [
            list(self.decoded(text, own.offsets, torch.cat(rows)))
            for text, own, rows in zip(texts, tokens, probabilities, strict=True)
        ]

    def decoded(self, text: str, offsets: list[tuple[int, int]], probabilities) -> Iterator[list]:
        """Yield the entities of a text from its tokens' places and their probabilities, [tokens, tags]."""
        labels, scores = labels_of_words(probabilities, word_of_tokens(text, offsets), self.tags)
        for entity in entities_of_labels(offsets, labels):
            own = scores[entity.first : entity.last]
            yield [entity.start, entity.end, entity.label, round(sum(own) / len(own), 6)]

    def classify(self, rows: list[list[int]]) -> list:
        """Return the probabilities of each row's tokens, a tensor [tokens, tags] on the CPU."""
        import torch

        from scripts.train.padding import pad_batch

        inputs = pad_batch([{"input_ids": row, "labels": row} for row in rows], self.tokenizer.pad_token_id)
        with torch.inference_mode():
            hidden = self.backbone(
                input_ids=inputs["input_ids"].to(self.device),
                attention_mask=inputs["attention_mask"].to(self.device),
                use_cache=False,
            ).last_hidden_state
            probabilities = self.head(hidden).softmax(-1).cpu()
        return [own[: len(row)] for row, own in zip(rows, probabilities, strict=True)]


def word_of_tokens(text: str, offsets: list[tuple[int, int]]) -> list[int]:
    """Return the number of each token's word: the first word that it overlaps.

    A token outside words (a mark, white space) has a negative number of its own.
    """
    words = enumerate(WORD.finditer(text))
    word_at = {place: number for number, match in words for place in range(*match.span())}
    return [
        next((word_at[place] for place in range(start, end) if place in word_at), -1 - token)
        for token, (start, end) in enumerate(offsets)
    ]


def labels_of_words(probabilities, words: list[int], tags: list[str]) -> tuple[list[str], list[float]]:
    """Return the BIO label and the score of each token from its probabilities, a tensor [tokens, tags].

    `words` are the numbers of `word_of_tokens`. The probabilities of a word are the mean over its tokens, that of an
    entity X is the sum of B-X and I-X, and the largest one decides and is the score. The first token of a word has B-X
    if that is more probable there than I-X; all others have I-X.
    """
    import torch

    names = sorted({tag[2:] for tag in tags})  # the empty one is that of O
    name_of_tag = torch.tensor([names.index(tag[2:]) for tag in tags])
    sums = torch.zeros(len(words), len(names)).index_add_(1, name_of_tag, probabilities)
    _, word, sizes = torch.tensor(words).unique_consecutive(return_inverse=True, return_counts=True)
    means = torch.zeros(len(sizes), len(names)).index_add_(0, word, sums) / sizes.unsqueeze(1)
    scores, best = means.max(-1)
    labels = []
    for token, name in enumerate(names[number] for number in best[word].tolist()):
        own, first = probabilities[token], name and words[token - 1 : token] != [words[token]]
        begins = first and own[tags.index(f"B-{name}")] > own[tags.index(f"I-{name}")]
        labels.append(f"{'B' if begins else 'I'}-{name}" if name else OUTSIDE)
    return labels, scores[word].tolist()
