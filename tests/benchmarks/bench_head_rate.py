"""Which learning rate a linear head wants: the same cached hidden states, trained at several rates.

python tests/benchmarks/bench_head_rate.py results/embedded/runs/pii/tokens \
    --base results/embedded/models/mistral-7b-v0.3/manifest.json --epochs 5 --rates 2e-5 1e-3 1e-2
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from scripts.common.base_model import load_tokenizer
from scripts.common.config.runs import Run
from scripts.common.files import read_json
from scripts.common.span_alignment import entities_of_labels
from scripts.common.threads import use_threads
from scripts.train.features import LiveFeatures, Rows
from scripts.train.head_loop import HeadTraining, Split
from scripts.train.head_model import class_weights, load_classifier, new_head


def settings_of(rate: float, epochs: int, weights: str) -> dict:
    """Return a run's settings: those of the recipe, but for the rate."""
    training = {"epochs": epochs, "learning_rate": rate, "scheduler": "linear", "warmup_ratio": 0.1}
    run = {"dataset": "d", "model": "m", "task": "token_classification", "method": "head", "training": training}
    return Run.model_validate(run | {"head": {"class_weights": weights}}).model_dump(mode="json")


def entities(numbers: list[int], labels: list[str]) -> set[tuple]:
    """Return the entities that a row's labels name, by tokens."""
    found, _ = entities_of_labels([(i, i + 1) for i in range(len(numbers))], [labels[n] for n in numbers])
    return {(entity.first, entity.last, entity.label) for entity in found}


def strict_f1(head, split: Split, labels: list[str]) -> float:
    """Return the F1 of entities with the right label at exactly the right tokens."""
    right = named = gold = 0
    for number in range(len(split.rows)):
        with torch.no_grad():
            best = head(split.features([number])).argmax(-1).tolist()
        found, wanted = entities(best, labels), entities(split.rows.labels[number].tolist(), labels)
        right, named, gold = right + len(found & wanted), named + len(found), gold + len(wanted)
    return 2 * right / max(named + gold, 1)


def main() -> None:
    """Print a table: a line for each rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--weights", choices=["none", "balanced"], default="none")
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    parser.add_argument("--rows", type=int, help="take only so many rows of each split")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    labels = read_json(arguments.tokens / "labels.json")
    settings = settings_of(1e-3, arguments.epochs, arguments.weights)
    backbone = load_classifier(arguments.base, labels, settings, "fp32").base_model.requires_grad_(False).eval()
    pad_id, splits, started = load_tokenizer(arguments.base).pad_token_id, {}, time.monotonic()
    for name in ("train", "validation", "test"):
        rows = Rows(arguments.tokens / f"{name}.arrow")
        for part in (rows.ids, rows.labels, rows.positions):
            del part[arguments.rows or len(part) :]
        live = LiveFeatures(backbone, rows, pad_id)
        splits[name] = Split(rows, Memory([live([number]) for number in range(len(rows))]))
    rows, size = splits["train"].rows, splits["train"].features.states[0]
    print(f"{rows.tokens} tokens, {len(labels)} labels, hidden size {size.shape[1]}, sum of |h| of a token on average")
    print(f"{splits['train'].features.weight():.0f}; one pass over all splits: {time.monotonic() - started:.1f} s")
    print("\n| rate | best epoch | validation loss | strict F1, validation | strict F1, test | seconds |")
    print("|---|---|---|---|---|---|")
    for rate in arguments.rates:
        line(rate, arguments, splits, labels)


class Memory:
    """Hidden states in memory, by row."""

    def __init__(self, states: list[torch.Tensor]):
        self.states = states

    def __call__(self, numbers: list[int]) -> torch.Tensor:
        return torch.cat([self.states[number] for number in numbers])

    def weight(self) -> float:
        """Return the mean over tokens of the sum of |h|: how far a step of Adam can move a logit, per rate."""
        return torch.cat(self.states).abs().sum(-1).mean().item()


def line(rate: float, arguments, splits: dict, labels: list[str]) -> None:
    """Train at one rate and print what came of it."""
    settings, started = settings_of(rate, arguments.epochs, arguments.weights), time.monotonic()
    head = new_head(arguments.base.parent, labels, settings["seed"])
    weights = class_weights(arguments.weights, splits["train"].rows.counts(len(labels)))
    training = HeadTraining(head, splits["train"], splits["validation"], settings, (4, 4), weights)
    with tempfile.TemporaryDirectory() as folder:
        state = training.run(Path(folder), None, lambda: False, json.dumps(rate))
    seconds = time.monotonic() - started
    scores = [strict_f1(head, splits[name], labels) for name in ("validation", "test")]
    epoch = state.best_step / training.steps_per_epoch
    shown = " | ".join(f"{score:.3f}" for score in scores)
    print(f"| {rate:g} | {epoch:.0f} | {state.best_loss:.4f} | {shown} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
