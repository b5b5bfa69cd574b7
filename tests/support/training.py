"""A small dataset folder, a run's settings, and trainings of any task, for tests of training and prediction."""

import json
from pathlib import Path

from scripts.common.records import Record, content_id
from scripts.config.runs import Run

MATCHES = ["Lens - Brest", "Nantes - Reims", "Metz - Nancy"]


def conversation(number: int) -> list[dict]:
    """Return a conversation whose length depends on its number."""
    match = MATCHES[number % 3]
    answer = f"But de la tête à la {number}e minute. " + "Le gardien était battu. " * (number % 4)
    return [
        {"role": "user", "content": f"Minute {number}. {match}."},
        {"role": "assistant", "content": answer.strip()},
    ]


def make_dataset(folder: Path, train: int = 18, validation: int = 3, test: int = 3) -> Path:
    """Write the splits of a dataset of short conversations; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        rows = []
        for _ in range(count):
            messages = conversation(number)
            rows.append(Record(content_id(messages), messages, messages[-1]["content"], origin=f"raw.json:{number}"))
            number += 1
        lines = [json.dumps(row.to_row(), ensure_ascii=False) + "\n" for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def make_data(folder: Path, base: Path, settings: dict, **counts: int) -> Path:
    """Make a small dataset for a run in dataset/ of a folder, and its rows in tokens/; return the folder.

    `counts` are the records of the splits, by name.
    """
    from scripts.common.threads import use_threads
    from scripts.train import tokenize_conversations, tokenize_spans
    from tests.support.span_data import make_span_dataset
    from tests.support.vision import make_vision_dataset

    use_threads(2)
    dataset, words = folder / "dataset", (base, folder / "tokens", settings["tokens"])
    if settings["task"] == "token_classification":
        tokenize_spans.tokenize_dataset(make_span_dataset(dataset, **counts), *words)
    elif settings["task"] == "vision":
        make_vision_dataset(dataset, **counts)
        edge = settings["vision"]["longest_edge"]
        tokenize_conversations.tokenize_dataset(dataset, *words, images=dataset, longest_edge=edge)
    else:
        tokenize_conversations.tokenize_dataset(make_dataset(dataset, **counts), *words)
    return folder


def train_step(data: Path, base: Path, folder: Path, settings: dict, *words: object) -> int:
    """Run the step that trains, on the folder that `make_data` returns, as the rule does; return its exit status."""
    from scripts.train import train_head, train_model

    step = train_head if settings["task"] == "token_classification" else train_model
    arguments = [data / "tokens", "--base", base, "--checkpoints", folder / "checkpoints", "--output"]
    arguments += [folder / "adapter", "--curve", folder / "curve.jsonl", "--facts", folder / "training.json"]
    return step.main([*map(str, [*arguments, *words]), "--settings", json.dumps(settings)])


def precision_of_tests() -> str:
    """Return `fp32` on a CPU, so that tests compare the same numbers on every machine, and `auto` on a GPU."""
    import torch

    return "auto" if torch.cuda.is_available() else "fp32"


def run_settings(method: str = "lora", **sections) -> dict:
    """Return a run's settings, JSON-ready, with quick defaults; sections are merged over them."""
    training = {"epochs": 2, "learning_rate": 1e-3, "micro_batch": 2, "accumulation": 2, "logging_steps": 1}
    training |= {"gradient_checkpointing": False, "precision": precision_of_tests()} | sections.pop("training", {})
    run = Run.model_validate({"dataset": "d", "model": "m", "method": method, "training": training, **sections})
    return run.model_dump(mode="json")


def train_in(data: Path, base: Path, folder: Path, settings: dict, attempt: int = 1) -> tuple[list[dict], dict]:
    """Train as the step does, but leave the checkpoints; return curve and facts.

    `data` is a folder with dataset/ and tokens/, `folder` gets checkpoints/ and adapter/.
    """
    return trainer_of(settings)(run_in(data, base, folder, settings, attempt))


def run_in(data: Path, base: Path, folder: Path, settings: dict, attempt: int = 1):
    """Return an attempt at a run with two threads; see `train_in`."""
    from scripts.train.head_run import HeadRun
    from scripts.train.training_run import TrainingRun

    places = (data / "tokens", base, folder / "checkpoints", folder / "adapter", settings, 2, attempt)
    if settings["task"] == "token_classification":
        return HeadRun(*places)
    return TrainingRun(*places, images=data / "dataset" if settings["task"] == "vision" else None)


def trainer_of(settings: dict):
    """Return the function that trains an attempt at a run with these settings."""
    from scripts.train import train_head, train_model

    return train_head.train_head if settings["task"] == "token_classification" else train_model.train_model
