"""Strict entity F1 of a finished pii run for each way to label words: `make demo`, then

python -m tests.benchmarks.bench_word_labels [results]

`mean` is what prediction does (scripts/predict/span_model.py); decisions.md quotes the figures.
"""

import sys
from pathlib import Path

import torch

from scripts.common.files import read_jsonl
from scripts.predict import span_model
from scripts.predict.span_model import SpanModel, labels_of_words
from tests.support.span_data import answer_settings

MODEL, TEST = "runs/pii/merged/manifest.json", "datasets/pii/test.jsonl"


def replaced(probabilities, words: list[int], tags: list[str], way: str):
    """Return labels and scores with each token's probabilities replaced by those of its word's first or last token."""
    if way == "token":
        return labels_of_words(probabilities, list(range(len(words))), tags)
    tokens = {word: token for token, word in (enumerate(words) if way == "last" else reversed([*enumerate(words)]))}
    return labels_of_words(probabilities[torch.tensor([tokens[word] for word in words], dtype=torch.long)], words, tags)


def main() -> None:
    """Print a line for each way."""
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    rows = list(read_jsonl(results / TEST))
    texts = [next(m["content"] for m in reversed(row["messages"]) if m["role"] == "user") for row in rows]
    model = SpanModel(results / MODEL, answer_settings(256, 32, batch_size=8, precision="auto"))
    for way in ("token", "first", "last", "mean"):
        if way != "mean":
            span_model.labels_of_words = lambda *parts, way=way: replaced(*parts, way)
        else:
            span_model.labels_of_words = labels_of_words
        found = [{tuple(entity[:3]) for entity in entities} for entities in model.entities(texts)]
        gold = [{tuple(span) for span in row["spans"]} for row in rows]
        right = sum(len(ours & theirs) for ours, theirs in zip(found, gold, strict=True))
        print(f"{way}: {2 * right / (sum(map(len, found)) + sum(map(len, gold))):.3f}")


if __name__ == "__main__":
    main()
