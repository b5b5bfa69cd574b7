"""Select the files of a model folder to import: safetensors, configuration, tokenizer; no pickles."""

from fnmatch import fnmatch

from scripts.common.plain_text import name_fault

WEIGHTS = "*.safetensors"
SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.md", "LICENSE*")
CODE = "*.py"
NOT_NEEDED = (
    "consolidated*", "original/*", "*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "manifest.json"
)  # fmt: skip


def wanted_patterns(with_code: bool) -> list[str]:
    """Return the patterns of the files to import; Python code only if the configuration allows it."""
    return [WEIGHTS, *SMALL_FILES, *([CODE] if with_code else [])]


def is_taken(name: str, with_code: bool) -> bool:
    """Return whether a file of a model folder is imported."""
    if name_fault(name) or any(fnmatch(name, pattern) for pattern in NOT_NEEDED):
        return False
    return any(fnmatch(name, pattern) for pattern in wanted_patterns(with_code))
