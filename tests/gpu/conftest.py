"""Tests that need a CUDA GPU: `pytest tests/gpu`. Without one each of them is skipped, and says so."""

import signal
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def pytest_collection_modifyitems(items):
    """Mark the tests of this folder; pytest hands over those of all folders."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(NEEDS_CUDA)


@pytest.fixture(autouse=True)
def keep_signal_handlers():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def chat(tiny_base, tmp_path_factory) -> Path:
    """A folder with a small dataset of conversations and, in tokens/, its rows."""
    from scripts.train.tokenize_conversations import tokenize_dataset
    from tests.support.training import make_dataset, run_settings

    folder = tmp_path_factory.mktemp("chat")
    make_dataset(folder / "dataset")
    tokenize_dataset(folder / "dataset", tiny_base, folder / "tokens", run_settings()["tokens"])
    return folder


@pytest.fixture(scope="session")
def spans(tiny_base, tmp_path_factory) -> Path:
    """A folder with a small dataset of texts with spans and, in tokens/, its rows."""
    from scripts.train.tokenize_spans import tokenize_dataset
    from tests.support.span_data import head_settings, make_span_dataset

    folder = tmp_path_factory.mktemp("spans")
    make_span_dataset(folder / "dataset")
    tokenize_dataset(folder / "dataset", tiny_base, folder / "tokens", head_settings()["tokens"])
    return folder


@pytest.fixture(scope="session")
def pictures(tiny_vision_base, tmp_path_factory) -> Path:
    """A folder with a small dataset of pictures of titles and, in tokens/, its rows."""
    from scripts.train.tokenize_conversations import tokenize_dataset
    from tests.support.training import run_settings
    from tests.support.vision import make_vision_dataset

    folder = tmp_path_factory.mktemp("pictures")
    dataset, settings = make_vision_dataset(folder / "dataset"), run_settings(task="vision")
    tokenize_dataset(dataset, tiny_vision_base, folder / "tokens", settings["tokens"], images=dataset)
    return folder
