"""A small disk for tests of what happens when it is full."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.needs import MUST_RUN

LITTLE, ENOUGH = 100_000, 60_000_000  # bytes that a try has for what it writes


class SmallDisk:
    """A tmpfs of a size that can be changed."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.mount("-t", "tmpfs", "-o", f"size={ENOUGH}", "none", str(folder))

    @staticmethod
    def mount(*words: str) -> None:
        """Run mount; without the right to do so the test is skipped, and fails in CI."""
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = f"only root can mount a small disk here: {done.stderr.strip()}"
            (pytest.fail if os.environ.get(MUST_RUN) else pytest.skip)(reason)

    def leave(self, room: int) -> None:
        """Make the disk so large that so many bytes are free."""
        size = shutil.disk_usage(self.folder).used + room
        self.mount("-o", f"remount,size={size}", str(self.folder))
