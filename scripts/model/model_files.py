"""Which files of a model's folder are taken: safetensors, configuration, tokenizer; nothing pickled."""

from fnmatch import fnmatch

from scripts.common.path_names import name_fault

WEIGHTS = "*.safetensors"
SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.md", "LICENSE*")
CODE = "*.py"
NOT_NEEDED = (
    "consolidated*", "original/*", "*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "manifest.json"
)  # fmt: skip


def wanted_patterns(with_code: bool) -> list[str]:
    """Return the patterns of the files that are taken; Python code only where the configuration allows it."""
    return [WEIGHTS, *SMALL_FILES, *([CODE] if with_code else [])]


def is_taken(name: str, with_code: bool) -> bool:
    """Return whether a file of a model's folder is taken."""
    if name_fault(name) or any(fnmatch(name, pattern) for pattern in NOT_NEEDED):
        return False
    return any(fnmatch(name, pattern) for pattern in wanted_patterns(with_code))
