"""Checkpoints: kept outside the declared outputs, keyed by everything that shapes the run, trusted only when whole."""

import re
import shutil
from pathlib import Path
from typing import Any

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.files import canonical_sha256, check_manifest


def fingerprint(**facts: Any) -> str:
    """Return 16 hex digits of the SHA-256 over everything that shapes a run; another fact is another run."""
    return canonical_sha256(facts)[:16]


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint whose manifest, written last, agrees with its files; broken ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: -step_of(path))
    for path in found:
        try:
            check_manifest(path / "manifest.json", hashes=True)
            return path
        except (UserError, OSError) as error:
            log.warning("checkpoint %s is not whole and is left out: %s", path.name, error)
            shutil.rmtree(path)
    return None


def step_of(path: Path) -> int:
    """Return the optimizer step of a checkpoint's folder name."""
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match[1]) if match else -1
