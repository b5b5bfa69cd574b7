"""Names of models and their files according to the GGUF specification.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#gguf-naming-convention
"""

import re
from dataclasses import dataclass

SIZE = re.compile(r"(?<![A-Za-z0-9.])(?:\d+x)?(?:\d+\.)?\d+[KMBTQ](?![A-Za-z0-9])")
VERSION = re.compile(r"(?<![A-Za-z0-9])v\d+(?:\.\d+)*(?![A-Za-z0-9])")
SCALES = ((10**15, "Q"), (10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


@dataclass(frozen=True)
class ModelName:
    """The components of a file name; `encoding` is the quant."""

    basename: str
    size_label: str
    finetune: str
    version: str

    def file_name(self, quant: str) -> str:
        """Return the file's name: `<BaseName>-<SizeLabel>-<FineTune>-<Version>-<Encoding>.gguf`."""
        return f"{self.basename}-{self.size_label}-{self.finetune}-{self.version}-{quant.upper()}.gguf"


def size_label(parameters: int) -> str:
    """Return the size class with up to two significant digits, such as `7.2B`, `12B` or `970K`."""
    for power, letter in SCALES:
        value = parameters / power
        if value >= 0.9995:
            return f"{value:.1f}{letter}" if value < 9.95 else f"{value:.0f}{letter}"
    return f"{parameters / 1000:.1f}K"


def words(text: str) -> list[str]:
    """Return the parts that the specification allows between dashes: digits only, or starting with a letter."""
    return re.findall(r"[0-9]+|[A-Za-z][A-Za-z0-9]*", text)


def base_name(text: str) -> str:
    """Return a model's name without size and version: `Mistral-7B-v0.3` is `Mistral`."""
    return "-".join(words(VERSION.sub("-", SIZE.sub("-", text)))) or "model"


def fine_tune(text: str) -> str:
    """Return a run's name as the specification's FineTune; it may not begin like a size attribute (`r16a`)."""
    name = "-".join(re.findall(r"[A-Za-z0-9]+", text)) or "tuned"
    return re.sub(r"^([A-Za-z]+)(\d+[A-Za-z])", r"\1-\2", name)


def base_version(text: str) -> str | None:
    """Return the version in a model's name, such as `v0.3`."""
    found = VERSION.search(text)
    return found[0] if found else None


def model_name(base: str, parameters: int, run: str, version: str) -> ModelName:
    """Return the name of a run's model."""
    return ModelName(base_name(base), size_label(parameters), fine_tune(run), version)
