"""A training that was interrupted, wherever and however often, ends byte for byte as one that never was (on a CPU)."""

import hashlib
import logging
import re
import signal
from pathlib import Path

import pytest
import torch

from scripts.common.files import MANIFEST, read_json, write_manifest
from scripts.common.threads import use_threads
from scripts.common.vision import vision_tokenizer
from scripts.train import tokenize_spans
from scripts.train.checkpoints import latest_checkpoint
from scripts.train.tokenize_conversations import tokenize_dataset
from tests.support.interruptions import interrupted, without_times
from tests.support.span_data import head_settings, make_span_dataset
from tests.support.training import make_dataset, run_settings, train_in
from tests.support.vision import make_vision_dataset

SAME_FACTS = ("steps", "best_step", "best_eval_loss", "packing", "rows")
PACKED = {"packing": True, "max_length": 96}
CHAT = {
    # 5 packs or so an epoch; the loss is logged every third step only, and the best checkpoint is kept.
    "packed": run_settings(
        lora={"dropout": 0.1}, tokens=PACKED, training={"epochs": 3, "micro_batch": 1, "logging_steps": 3}
    ),
    # Ends within an epoch; evaluated and saved at other steps than logged, in groups of like length.
    "grouped": run_settings(
        lora={"dropout": 0.1},
        training={"max_steps": 8, "eval_steps": 3, "checkpoint_steps": 2, "group_by_length": True, "logging_steps": 4},
    ),
    # Stops early: worse and worse evaluations.
    "early": run_settings(
        training={"epochs": 9, "learning_rate": 0.3, "scheduler": "constant", "early_stopping_patience": 1}
    ),
    "qlora": run_settings("qlora", lora={"dropout": 0.1}, training={"logging_steps": 2}),
    "full": run_settings("full", training={"epochs": 1, "logging_steps": 2, "learning_rate": 1e-4}),
}
VISION = run_settings(
    task="vision",
    vision={"train_projector": True, "train_vision_tower": True, "projector_learning_rate": 1e-4},
    lora={"dropout": 0.1},
    training={"epochs": 2},
)
HEAD = {"max_steps": 8, "logging_steps": 3, "early_stopping_patience": 3}
SPANS = {
    "adapter and head": head_settings("lora", training={"max_steps": 6, "logging_steps": 4}),
    "head": head_settings(head={"dropout": 0.1}, training=HEAD),
    "head without kept states": head_settings(head={"cache": "never", "dropout": 0.1}, training=HEAD),
}


@pytest.fixture(scope="module")
def chat(tiny_base, tmp_path_factory) -> Path:
    """A folder with a small dataset of conversations and its rows."""
    use_threads(2)
    folder = tmp_path_factory.mktemp("chat")
    make_dataset(folder / "dataset")
    tokenize_dataset(folder / "dataset", tiny_base, folder / "tokens", run_settings()["tokens"])
    return folder


@pytest.fixture(scope="module")
def pictures(tiny_vision_base, tmp_path_factory) -> Path:
    """A folder with a small dataset of pictures and its rows."""
    folder = tmp_path_factory.mktemp("pictures")
    vision = vision_tokenizer(tiny_vision_base, make_vision_dataset(folder / "dataset"), VISION)
    tokenize_dataset(folder / "dataset", tiny_vision_base, folder / "tokens", VISION["tokens"], vision)
    return folder


@pytest.fixture(scope="module")
def spans(tiny_base, tmp_path_factory) -> Path:
    """A folder with a small dataset of texts with spans and its rows."""
    folder = tmp_path_factory.mktemp("spans")
    make_span_dataset(folder / "dataset", train=18)
    tokenize_spans.tokenize_dataset(folder / "dataset", tiny_base, folder / "tokens", SPANS["head"]["tokens"])
    return folder


@pytest.fixture(autouse=True)
def keep_signal_handlers():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A function that trains a run without an interruption, once; returns its folder, curve and facts."""
    known = {}

    def train(name: str, data: Path, base: Path, settings: dict):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            known[name] = (folder, *train_in(data, base, folder, settings))
        return known[name]

    return train


def digest(folder: Path) -> str:
    files = sorted((folder / "adapter").glob("*.safetensors"))
    assert files
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def assert_same_end(whole: tuple, folder: Path, curve: list[dict], facts: dict) -> None:
    """Assert that a run has the weights, the curve and the facts of the one that was not interrupted."""
    assert without_times(curve) == without_times(whole[1])
    assert {key: facts[key] for key in SAME_FACTS if key in facts} == {
        key: whole[2][key] for key in SAME_FACTS if key in facts
    }
    assert digest(folder) == digest(whole[0])


def steps_evaluated(curve: list[dict]) -> list[int]:
    return [row["step"] for row in curve if "eval_loss" in row]


@pytest.fixture
def case(request):
    """A function that returns the data, the base and the settings of a run by its name."""

    def of(name: str) -> tuple[Path, Path, dict]:
        if name == "vision":
            return request.getfixturevalue("pictures"), request.getfixturevalue("tiny_vision_base"), VISION
        data = request.getfixturevalue("spans" if name in SPANS else "chat")
        return data, request.getfixturevalue("tiny_base"), (CHAT | SPANS)[name]

    return of


@pytest.mark.parametrize("name", [*(name for name in CHAT if name != "early"), "vision", *SPANS])
def test_a_run_that_is_stopped_at_every_single_step_ends_as_if_it_never_was(
    case, tmp_path, monkeypatch, undisturbed, name
):
    data, base, settings = case(name)
    whole = undisturbed(name, data, base, settings)
    moments = [("step begins", 1), *(("step ends", step) for step in range(2, whole[2]["steps"] + 1))]
    curve, facts = interrupted(lambda: train_in(data, base, tmp_path, settings), monkeypatch, moments)
    assert_same_end(whole, tmp_path, curve, facts)


@pytest.mark.parametrize("name", ["packed", "grouped", "early", "head"])
def test_a_run_that_is_stopped_in_every_evaluation_ends_as_if_it_never_was(
    case, tmp_path, monkeypatch, undisturbed, name, caplog
):
    caplog.set_level(logging.INFO, "snaketune")
    data, base, settings = case(name)
    whole = undisturbed(name, data, base, settings)
    moments = [("evaluation", step) for step in steps_evaluated(whole[1])]
    curve, facts = interrupted(lambda: train_in(data, base, tmp_path, settings), monkeypatch, moments)
    assert_same_end(whole, tmp_path, curve, facts)
    said = [re.match(r"continues from step (\d+) \(.*/checkpoint-\1-before-evaluation\)$", m) for m in caplog.messages]
    assert [("evaluation", int(match[1])) for match in said if match] == moments


def test_moments_that_bitsandbytes_had_paged_are_ordinary_after_a_resume(
    chat, tiny_base, tmp_path, monkeypatch, undisturbed
):
    settings = CHAT["packed"]
    whole = undisturbed("packed", chat, tiny_base, settings)

    def moments(mark: bool) -> list[torch.Tensor]:
        """Return the moments in the newest checkpoint, which say from then on that they are paged if `mark`."""
        checkpoint = latest_checkpoint(next((tmp_path / "checkpoints").iterdir()))
        state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
        found = [value for entry in state["state"].values() for value in entry.values()]
        if mark:
            for moment in found:
                moment.is_paged, moment.page_deviceid = True, 0
            torch.save(state, checkpoint / "optimizer.pt")
            facts = {key: value for key, value in read_json(checkpoint / MANIFEST).items() if key != "files"}
            write_manifest(checkpoint, **facts)
        return found

    def train() -> tuple:
        if (tmp_path / "checkpoints").exists():
            assert moments(mark=True)
        return train_in(chat, tiny_base, tmp_path, settings)

    curve, facts = interrupted(train, monkeypatch, [("step ends", 3)])
    assert_same_end(whole, tmp_path, curve, facts)
    assert not any(hasattr(moment, "is_paged") for moment in moments(mark=False))
