"""What all system tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def one_download(converter_archive: Path) -> Iterator[None]:
    """Let all workflows take llama.cpp's converter from one archive instead of downloading it each time."""
    before = os.environ.get(ARCHIVE_VARIABLE)
    os.environ[ARCHIVE_VARIABLE] = str(converter_archive)
    yield
    if before is None:
        del os.environ[ARCHIVE_VARIABLE]
