"""Data that tests read, from files under tests/data."""

from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[1] / "data"


def load(name: str):
    """Return the content of a YAML file."""
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
