"""A tokenizer is copied, never saved anew: saving can lose keys that the served model needs (see docs on parity)."""

import shutil
from pathlib import Path

FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)


def copy_tokenizer_files(source: Path, target: Path) -> None:
    """Copy a model folder's tokenizer, processor, chat template and generation settings byte for byte."""
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def copy_code(source: Path, target: Path) -> None:
    """Copy the Python files of a model folder whose code the configuration allows."""
    for path in source.glob("*.py"):
        shutil.copyfile(path, target / path.name)
