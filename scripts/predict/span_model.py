"""A merged token classifier that finds entities in texts, for prediction and redaction."""

from collections.abc import Iterator
from pathlib import Path

from scripts.common.base_model import four_bit, load_tokenizer
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json
from scripts.common.number_format import precision_of_answers, torch_dtype
from scripts.train.span_alignment import (
    OUTSIDE,
    TokenizedText,
    encode_text,
    entities_of_labels,
    special_frame,
    windows,
)

NF4 = {"quant_type": "nf4", "double_quant": True}  # for a 4-bit backbone that was not trained in 4 bits


class SpanModel:
    """The classifier of a `merged` folder; the backbone in `precision`, the head in float32, as in training.

    Texts are read in windows of `max_length` tokens that overlap by `overlap`; each token is scored once, in the window
    with the most context before it. On a CPU each window is a batch of its own, at no cost, so that the result for a
    text does not depend on other texts. `load_in_4bit` is yes, no, or auto (as in training).
    """

    def __init__(
        self,
        manifest: Path,
        precision: str,
        max_length: int,
        overlap: int,
        batch_size: int,
        load_in_4bit: str = "auto",
    ):
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
        precision = precision_of_answers(precision, config["precision"])
        self.max_length, self.overlap, self.batch_size = max_length, overlap, batch_size
        self.windows_at_once = batch_size if torch.cuda.is_available() else 1
        self.tokenizer = load_tokenizer(manifest)
        self.frame = special_frame(self.tokenizer)
        reduced = NF4 if load_in_4bit == "yes" else config["load_in_4bit"] if load_in_4bit == "auto" else None
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
            for number, entities in zip(batch, self.entities_of([tokens[i] for i in batch]), strict=True):
                found[number] = entities
        return found

    def encode(self, text: str) -> TokenizedText:
        """Return a text's tokens without special ones."""
        return encode_text(self.tokenizer, text)

    def batches(self, tokens: list[TokenizedText]) -> list[list[int]]:
        """Return batches of texts of similar length, longest first; deterministic for the texts."""
        order = sorted(range(len(tokens)), key=lambda i: (-len(tokens[i].ids), i))
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def entities_of(self, tokens: list[TokenizedText]) -> list[list[list]]:
        """Return the entities of one batch of texts; on a GPU `batch_size` windows are processed at once.

        An entity's score is the mean over its tokens of the probability of the predicted label.
        """
        before, after = self.frame
        capacity = self.max_length - len(before) - len(after)
        cuts = [
            (i, window) for i, text in enumerate(tokens) for window in windows(len(text.ids), capacity, self.overlap)
        ]
        tags: list[list[str]] = [[] for _ in tokens]
        scores: list[list[float]] = [[] for _ in tokens]
        for start in range(0, len(cuts), self.windows_at_once):
            part = cuts[start : start + self.windows_at_once]
            rows = [[*before, *tokens[i].ids[window.start : window.end], *after] for i, window in part]
            for (i, window), (best, score) in zip(part, self.classify(rows), strict=True):
                own = slice(len(before) + window.owned - window.start, len(before) + window.end - window.start)
                tags[i] += [self.tags[number] for number in best[own]]
                scores[i] += score[own]
        return [list(self.decoded(*parts)) for parts in zip(tokens, tags, scores, strict=True)]

    def decoded(self, text: TokenizedText, tags: list[str], scores: list[float]) -> Iterator[list]:
        """Yield the entities of a text's tags."""
        for entity in entities_of_labels(text.offsets, tags):
            own = scores[entity.first : entity.last]
            yield [entity.start, entity.end, entity.label, round(sum(own) / len(own), 6)]

    def classify(self, rows: list[list[int]]) -> list[tuple[list[int], list[float]]]:
        """Return the most probable tag of each token of each row, and its probability."""
        import torch

        from scripts.train.padding import pad_batch

        inputs = pad_batch([{"input_ids": row, "labels": row} for row in rows], self.tokenizer.pad_token_id)
        with torch.inference_mode():
            hidden = self.backbone(
                input_ids=inputs["input_ids"].to(self.device),
                attention_mask=inputs["attention_mask"].to(self.device),
                use_cache=False,
            ).last_hidden_state
            scores, best = self.head(hidden).softmax(-1).max(-1)
        return [(b[: len(row)], s[: len(row)]) for row, b, s in zip(rows, best.tolist(), scores.tolist(), strict=True)]
