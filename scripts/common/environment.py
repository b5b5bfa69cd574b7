"""The Python environment of this process: a venv, a conda environment or a container, and what is installed in it."""

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
    """Return the name, hash and labels of the Apptainer image that this process runs in; None outside of one.

    The hash is that of the image's file, where the container can see it.
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
    """Return kind, image, Python version and packages of this process's environment; no path of the machine."""
    return {
        "kind": kind_of_environment(),
        "image": container_image(),
        "python": platform.python_version(),
        "packages": installed_packages(),
    }
