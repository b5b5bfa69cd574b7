"""Find the entities of a text: `pip install torch transformers` (and `bitsandbytes` where FOUR_BIT is set), then

python example_classify.py "your text"
python example_classify.py --file letter.txt --redact

It prints one line of JSON per entity, or with --redact the text with each entity replaced by [LABEL]. Texts of any
length are read in windows. All tokens of a word get one label, from the mean of their probabilities. The backbone runs
on the first GPU, else on the CPU; the last layer is in float32.
"""

import argparse
import json
import os
import re
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoModelForTokenClassification, AutoTokenizer, BitsAndBytesConfig

MAX_LENGTH = 512
OVERLAP = 64
PRECISION = "auto"
FOUR_BIT = None
TRUST_REMOTE_CODE = False
TEXT = "Hello"
# Not the scripts that are written without spaces: Thai, Lao, Burmese, Khmer, Japanese and Chinese.
WORD = re.compile(r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]+")


def number_format(device: str) -> torch.dtype:
    """Return bf16 if the device supports it natively, else fp16 on a GPU and fp32 on a CPU."""
    if device != "cpu":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    cpu = Path("/proc/cpuinfo")
    flags = set(cpu.read_text(errors="replace").split()) if cpu.is_file() else set()
    limited = re.fullmatch("SSE41|AVX|AVX2.*|AVX512_CORE(_VNNI)?", os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper())
    native = "amx_bf16" in flags or {"avx512_bf16", "AuthenticAMD"} <= flags
    return torch.bfloat16 if native and not limited else torch.float32


class Classifier:
    """The token classifier of a folder."""

    def __init__(self, folder: Path):
        on_gpu = torch.cuda.is_available()
        self.device = "cuda:0" if on_gpu else "cpu"
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        compute = kinds.get(PRECISION) or number_format(self.device)
        quantized = FOUR_BIT and BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=FOUR_BIT["quant_type"],
            bnb_4bit_use_double_quant=FOUR_BIT["double_quant"],
            bnb_4bit_compute_dtype=compute,
        )
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=TRUST_REMOTE_CODE)
        model = AutoModelForTokenClassification.from_pretrained(
            folder,
            dtype=compute,
            quantization_config=quantized,
            device_map={"": self.device},
            use_safetensors=True,
            trust_remote_code=TRUST_REMOTE_CODE,
        ).eval()
        self.backbone, names = model.base_model, model.config.id2label
        self.tags = [names[number] for number in range(len(names))]
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        with safe_open(folder / index["weight_map"]["score.weight"], framework="pt") as file:
            self.weight = file.get_tensor("score.weight").float().to(self.device)
            self.bias = file.get_tensor("score.bias").float().to(self.device)
        bare, framed = (self.tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        before = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
        self.before, self.after = framed[:before], framed[before + len(bare) :]

    def entities(self, text: str) -> list[dict]:
        """Return {"start", "end", "label", "score", "text"} of each entity, in characters, sorted."""
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
        )
        pieces = zip(encoded.tokens(), encoded["offset_mapping"], strict=True)
        places = [
            (start, start) if piece == "▁" and start == 0 else trimmed(text, start, end)
            for piece, (start, end) in pieces
        ]
        probabilities = self.probabilities(encoded["input_ids"])
        tags, scores = labels_of_words(probabilities, word_of_tokens(text, places), self.tags)
        return [
            {"start": start, "end": end, "label": label, "score": round(score, 6), "text": text[start:end]}
            for start, end, label, score in decoded(places, tags, scores)
        ]

    def probabilities(self, ids: list[int]) -> torch.Tensor:
        """Return the probabilities [tokens, tags]; a token is scored in the first window that holds it."""
        capacity = MAX_LENGTH - len(self.before) - len(self.after)
        found, end = [torch.zeros(0, len(self.tags))], 0
        while end < len(ids):
            start = max(end - OVERLAP, 0)
            owned, end = end, min(start + capacity, len(ids))
            row = torch.tensor([[*self.before, *ids[start:end], *self.after]], device=self.device)
            with torch.inference_mode():
                hidden = self.backbone(input_ids=row, use_cache=False).last_hidden_state[0]
                probabilities = torch.nn.functional.linear(hidden.float(), self.weight, self.bias).softmax(-1)
            first = len(self.before)
            found.append(probabilities[first + owned - start : first + end - start].cpu())
        return torch.cat(found)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a token's offsets without white space at its edges."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def word_of_tokens(text: str, places: list[tuple[int, int]]) -> list[int]:
    """Return the number of each token's word, the first that it overlaps; others have negative numbers."""
    words = enumerate(WORD.finditer(text))
    word_at = {place: number for number, match in words for place in range(*match.span())}
    return [
        next((word_at[place] for place in range(start, end) if place in word_at), -1 - token)
        for token, (start, end) in enumerate(places)
    ]


def labels_of_words(probabilities: torch.Tensor, words: list[int], tags: list[str]) -> tuple[list[str], list[float]]:
    """Return label and score of each token: those of its word, from the mean of the word's probabilities."""
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
        labels.append(f"{'B' if begins else 'I'}-{name}" if name else "O")
    return labels, scores[word].tolist()


def decoded(places: list[tuple[int, int]], tags: list[str], scores: list[float]) -> list[tuple]:
    """Return (start, end, label, score) of the entities of BIO tags: B-X begins one, I-X continues it."""
    runs: list[list] = []  # label, first token, last token + 1
    for token, tag in enumerate(tags):
        same = token > 0 and places[token] == places[token - 1] and places[token][0] < places[token][1]
        kind, _, label = tag.partition("-")
        if same:  # a further piece of one character
            if runs and runs[-1][2] == token:
                runs[-1][2] = token + 1
        elif kind == "I" and runs and runs[-1][0] == label and runs[-1][2] == token:
            runs[-1][2] = token + 1
        elif label:
            runs.append([label, token, token + 1])
    found: list[tuple] = []
    for label, first, last in runs:
        own = [place for place in places[first:last] if place[0] < place[1]]
        start = max(own[0][0], found[-1][1] if found else 0) if own else 0
        if own and start < own[-1][1]:
            found.append((start, own[-1][1], label, sum(scores[first:last]) / (last - first)))
    return found


def redacted(text: str, entities: list[dict]) -> str:
    """Return the text with each entity replaced by its label."""
    for entity in reversed(entities):
        text = f"{text[: entity['start']]}[{entity['label']}]{text[entity['end'] :]}"
    return text


def main() -> None:
    """Print the entities of a text, or the redacted text."""
    arguments = argparse.ArgumentParser(description="Find the entities of a text.")
    arguments.add_argument("text", nargs="?", default=TEXT)
    arguments.add_argument("--file", type=Path, help="read the text from this file")
    arguments.add_argument("--redact", action="store_true", help="print the text with [LABEL] in place of each entity")
    arguments.add_argument("--model", type=Path, default=Path(__file__).parent / "model")
    chosen = arguments.parse_args()
    text = chosen.file.read_text(encoding="utf-8") if chosen.file else chosen.text
    entities = Classifier(chosen.model).entities(text)
    if chosen.redact:
        print(redacted(text, entities))
    else:
        for entity in entities:
            print(json.dumps(entity, ensure_ascii=False))


if __name__ == "__main__":
    main()
