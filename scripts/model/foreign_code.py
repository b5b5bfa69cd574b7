"""Remove the entries of a model folder's JSON files that make libraries download or run code.

transformers runs the code in `auto_map` if it is trusted, and downloads the kernel in `attn_implementation` from the
hub. The entries stay if the configuration trusts the model. llama.cpp's converter trusts every folder, so
`trust_remote_code=False` is not sufficient.
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
    """Remove the entries that name code from a model folder's JSON files; return the changed files.

    Raises UserError for a tokenizer that needs its code.
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
    """Raise UserError if a tokenizer with code has a class that transformers does not have."""
    import transformers

    if not hasattr(transformers, str(config.get("tokenizer_class"))):
        raise UserError(
            f"its tokenizer needs its own Python code (class '{config.get('tokenizer_class')}')",
            folder,
            remedy="read that code, then set 'trust_remote_code: true' under the model",
        )
