"""What all system tests share."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from docs.picture import BROWSERS
from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE
from tests.support.needs import need
from tests.support.small_disk import SmallDisk


@pytest.fixture(scope="session", autouse=True)
def one_download(converter_archive: Path) -> Iterator[None]:
    """Let all workflows take llama.cpp's converter from one archive instead of downloading it each time."""
    before = os.environ.get(ARCHIVE_VARIABLE)
    os.environ[ARCHIVE_VARIABLE] = str(converter_archive)
    yield
    if before is None:
        del os.environ[ARCHIVE_VARIABLE]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, of the machine."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    program = found or need(BROWSERS[0], "tests/system/install_chromium.sh")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk, empty at first."""
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk.folder)], check=True)
