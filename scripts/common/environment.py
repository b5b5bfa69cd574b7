"""Describe the Python environment of this process: venv, conda environment or container, and installed packages."""

import json
import os
import platform
import re
import sys
from importlib.metadata import distributions
from pathlib import Path

from scripts.common.files import sha256_of

LABELS = Path("/.singularity.d/labels.json")


def kind_of_environment(prefix: str = sys.prefix, labels: Path = LABELS) -> str:
    """Return `container` (an Apptainer image), `conda`, `venv` or `system`."""
    if labels.is_file():
        return "container"
    if (Path(prefix) / "conda-meta").is_dir():
        return "conda"
    return "venv" if prefix != sys.base_prefix else "system"


def container_image(labels: Path = LABELS) -> dict | None:
    """Return name, SHA-256 and labels of the Apptainer image that this process runs in; None outside a container.

    The SHA-256 is None if the container can't read the image file.
    """
    if not labels.is_file():
        return None
    file = Path(os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER") or "")
    return {
        "name": file.name or None,
        "sha256": sha256_of(file) if file.is_file() else None,
        "labels": json.loads(labels.read_text(encoding="utf-8")),
    }


def installed_packages() -> dict[str, str]:
    """Return the version of each installed package, by normalised name."""
    found = {re.sub(r"[-_.]+", "-", item.name).lower(): item.version for item in distributions() if item.name}
    return dict(sorted(found.items()))


def environment() -> dict:
    """Return kind, image, Python version and packages of this process's environment, without paths."""
    return {
        "kind": kind_of_environment(),
        "image": container_image(),
        "python": platform.python_version(),
        "packages": installed_packages(),
    }
