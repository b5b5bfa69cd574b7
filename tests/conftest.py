"""Fixtures that several tests share."""

from pathlib import Path

import pytest

from scripts.common.files import write_manifest
from tests.support.tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """The manifest of a very small Mistral with random weights."""
    folder = make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")
    facts = {"name": "tiny", "source": "embedded", "id": None, "revision": None, "architecture": "mistral"}
    return write_manifest(folder, **facts, license=None, parameters=1)
