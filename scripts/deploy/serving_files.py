"""The files by which a bundle serves itself: from the folder `serving`, with the bundle's values."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from scripts.common.files import write_text

SOURCES = Path(__file__).parent / "serving"
OPTIONS = {
    "temperature": "--temp",
    "top_p": "--top-p",
    "top_k": "--top-k",
    "min_p": "--min-p",
    "repeat_penalty": "--repeat-penalty",
}


def filled(text: str, lines: Mapping[str, str]) -> str:
    """Return a program's text in which each line that starts with a key of `lines` has the value behind the key.

    Raises ValueError unless there is exactly one such line.
    """
    for start, value in lines.items():
        text, count = re.subn(rf"(?m)^{re.escape(start)}.*$", lambda _, line=start + value: line, text)
        if count != 1:
            raise ValueError(f"there are {count} lines '{start}...', not one")
    return text


def write_serving(
    folder: Path, name: str, model: str, context: int, sampling: dict, mmproj: str | None, image_tokens: int | None
) -> None:
    """Write serve.sh, vllm.sh, Containerfile and snaketune.service into a bundle's folder.

    `name` is the model's name for clients, `context` the tokens of a request with its answer; `sampling` has the
    parameters by their names in the configuration; `mmproj` is the file of the vision tower, `image_tokens` the most of
    an image.
    """
    options = " ".join(f"{OPTIONS[key]} {value}" for key, value in sampling.items())
    of_vllm = json.dumps({key.replace("repeat_", "repetition_"): value for key, value in sampling.items()})
    both, images = {"name": name, "context": context}, {"mmproj": mmproj or "", "image_tokens": image_tokens or ""}
    values = {
        "serve.sh": {**both, "model": model, "sampling": options, **images},
        "vllm.sh": {**both, "sampling": of_vllm},
    }
    for source in sorted(SOURCES.iterdir()):
        lines = {f"{key}=": shlex.quote(str(value)) for key, value in values.get(source.name, {}).items()}
        write_text(folder / source.name, filled(source.read_text(encoding="utf-8"), lines))
        if source.suffix == ".sh":
            (folder / source.name).chmod(0o755)
