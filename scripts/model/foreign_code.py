"""Entries of a model folder's JSON files that make libraries fetch or run code, taken out.

transformers runs what `auto_map` names when it is trusted, and fetches a kernel that `attn_implementation` names from
the hub. Where the configuration trusts the model they stay. llama.cpp's converter trusts every folder, so that leaving
the decision to `trust_remote_code=False` alone would not do.
"""

from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.common.files import read_json, write_json

MAP = "auto_map"
ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
OTHERS = ("custom_pipelines", "custom_generate")
JSON_FILES = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "processor_config.json"),
    *("preprocessor_config.json", "video_preprocessor_config.json"),
)


def without_code(value: Any) -> Any:
    """Return JSON without the entries that name code, at any depth."""
    if isinstance(value, list):
        return [without_code(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    kept = {key: entry for key, entry in value.items() if key != MAP and key not in (*ATTENTION, *OTHERS)}
    return {key: without_code(entry) for key, entry in kept.items()}


def take_out_code(folder: Path) -> list[str]:
    """Take the entries that name code out of a model folder's JSON files; return the files that had any.

    Raises UserError for a tokenizer that is nothing without its code.
    """
    changed = []
    for name in JSON_FILES:
        path = folder / name
        if not path.is_file():
            continue
        content = read_json(path)
        plain = without_code(content)
        if plain == content:
            continue
        if name == "tokenizer_config.json" and MAP in content and not (folder / "tokenizer.json").is_file():
            check_tokenizer_class(folder, content)
        write_json(path, plain)
        changed.append(name)
    return changed


def check_tokenizer_class(folder: Path, config: dict) -> None:
    """Raise UserError where the class of a tokenizer that brings code is none of transformers' own."""
    import transformers

    if not hasattr(transformers, str(config.get("tokenizer_class"))):
        raise UserError(
            f"its tokenizer needs Python code of its own (class '{config.get('tokenizer_class')}')",
            folder,
            remedy="read that code, then set 'trust_remote_code: true' under the model",
        )
