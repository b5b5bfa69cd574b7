"""Find the entities of a text: `pip install torch transformers` (and `bitsandbytes` where FOUR_BIT is set), then

python example_classify.py "your text"
python example_classify.py --file letter.txt --redact

It prints one line of JSON per entity, or with --redact the text with each entity replaced by [LABEL]. Texts of any
length are read in windows. The backbone runs on the first GPU, else on the CPU; the last layer is in float32.
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
        self.backbone, self.tags = model.base_model, model.config.id2label
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
        tags, scores = self.tagged(encoded["input_ids"])
        return [
            {"start": start, "end": end, "label": label, "score": round(score, 6), "text": text[start:end]}
            for start, end, label, score in decoded(places, tags, scores)
        ]

    def tagged(self, ids: list[int]) -> tuple[list[str], list[float]]:
        """Return tag and probability of each token; a token is scored in the first window that holds it."""
        capacity = MAX_LENGTH - len(self.before) - len(self.after)
        tags, scores, end = [], [], 0
        while end < len(ids):
            start = max(end - OVERLAP, 0)
            owned, end = end, min(start + capacity, len(ids))
            row = torch.tensor([[*self.before, *ids[start:end], *self.after]], device=self.device)
            with torch.inference_mode():
                hidden = self.backbone(input_ids=row, use_cache=False).last_hidden_state[0]
                chances = torch.nn.functional.linear(hidden.float(), self.weight, self.bias).softmax(-1)
            first = len(self.before)
            score, best = chances[first + owned - start : first + end - start].max(-1)
            tags += [self.tags[number] for number in best.tolist()]
            scores += score.tolist()
        return tags, scores


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a token's offsets without white space at its edges."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


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
