"""The section `environments`: environments of the steps with `--sdm conda` and `--sdm apptainer`."""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from scripts.config.types import Section, Text

RUN_BY_RULES = ("dataset", "gguf", "score", "train")
BY_DIGEST = re.compile(r"(docker|oras)://[^\s@]+@sha256:[0-9a-f]{64}")


class Environments(Section):
    """Environments of the steps with `--sdm conda` and `--sdm apptainer`; without either all steps use `.venv`."""

    torch: Literal["cuda", "cpu"] = Field(
        "cuda",
        description="Build of torch: `cuda`, which also runs on a CPU, or the much smaller `cpu`, which has no "
        "torchvision and does not support the task `vision`.",
    )
    images: dict[Literal[RUN_BY_RULES], Text] = Field(
        {},
        description="Images for `--sdm apptainer` instead of those that `make containers` builds: a published image "
        "with its digest (`docker://.../name@sha256:...`, or `oras://`), or a `.sif` file.",
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for name, image in self.images.items():
            if "://" in image and not BY_DIGEST.fullmatch(image):
                message = (
                    "is not a docker:// or oras:// reference that ends in @sha256:<64 hex digits>; tags may change"
                )
                yield f"images.{name}", f"'{image}' {message}"
            elif "://" not in image and not image.endswith(".sif"):
                yield f"images.{name}", f"'{image}' is neither a published image (docker://, oras://) nor a .sif file"
