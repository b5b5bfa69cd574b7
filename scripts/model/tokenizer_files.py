"""A tokenizer is copied, never saved anew: saving can lose keys that the served model needs (see docs on parity)."""

import shutil
from pathlib import Path

FILES = (
    "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "tekken.json", "chat_template.jinja", "chat_template.json",
    "generation_config.json", "preprocessor_config.json", "processor_config.json",
)  # fmt: skip


def copy_tokenizer_files(source: Path, target: Path, with_code: bool) -> None:
    """Copy a model folder's tokenizer, processor, chat template and generation settings byte for byte.

    `with_code`: also its Python files, which the configuration allows.
    """
    for path in [*(source / name for name in FILES), *(source.glob("*.py") if with_code else ())]:
        if path.is_file():
            shutil.copyfile(path, target / path.name)
