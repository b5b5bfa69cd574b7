"""What the bundle of a vision run has beside that of a run of text: the vision tower's file, and how to show images."""

from dataclasses import dataclass
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.mmproj import image_limits
from scripts.common.records import images_of

FILE = "mmproj.gguf"


@dataclass(frozen=True)
class VisionParts:
    """The vision tower's file, and how images are shown: longest edge and cell in pixels, whether before the text."""

    mmproj: Path
    longest_edge: int
    cell: int
    image_first: bool

    @property
    def most_tokens(self) -> int:
        """The tokens of the largest image, without those of its rows."""
        return (-(-self.longest_edge // self.cell)) ** 2

    def values(self) -> dict:
        """Return the constants of the example for transformers."""
        return {"LONGEST_EDGE": self.longest_edge, "IMAGE_FIRST": self.image_first}

    def llama_values(self) -> dict:
        """Return the constants of the example for llama.cpp."""
        return {**self.values(), "MMPROJ": FILE, "CELL": self.cell}


def vision_parts(mmproj: Path, run: dict, test: Path, examples: list[dict]) -> VisionParts:
    """Return what a vision run's bundle shows images by; `examples` are the turns that a strategy shows.

    Raises UserError for turns with images, which a bundle does not ship.
    """
    if images_of(examples):
        raise UserError(
            "the chosen strategy shows images as examples, and a bundle ships none",
            remedy="choose a strategy without 'shots', or of text",
        )
    edge, patch, merge = image_limits(mmproj, run["vision"]["longest_edge"])
    return VisionParts(mmproj, edge, patch * merge, shows_image_first(test))


def shows_image_first(test: Path) -> bool:
    """Tell whether the first question with an image begins with it; without one it would."""
    for row in read_jsonl(test):
        for message in row["messages"]:
            if images_of([message]):
                return message["content"][0]["type"] == "image"
    return True


def run_lines(stem: str, file_name: str) -> list[str]:
    """Return how the card says that the model is run."""
    return [
        "With Ollama, in this folder:",
        "",
        "```console",
        f"ollama create {stem} -f Modelfile",
        f'ollama run {stem} "your question ./page.png"',
        "```",
        "",
        f'With llama.cpp: `llama-mtmd-cli -m {file_name} --mmproj {FILE} --jinja --image page.png -p "your question"`; '
        "the chat template and the sampling defaults are in the file.",
        "From Python: `python example_llama_cpp.py page.png`, or `python example_transformers.py page.png` with the "
        "merged model, which is the folder `merged` beside the bundle where it was made.",
    ]


def parity_line(images: dict) -> str:
    """Return what the card says of images; `images` is their part of the parity report."""
    line = (
        f"Of {images['images']} images it sees the same tokens as well, {images['tokens']} of them, in "
        f"{images['conversations']} conversations."
    )
    if "embeddings" in images:
        line += (
            f" Their embeddings are {images['embeddings']['mean_error']:.2g} of their length (largest "
            f"{images['embeddings']['max_error']:.2g}) from the merged model's, the distribution after them "
            f"{images['divergence']['mean']:.2g} nats."
        )
    return line


def limit_lines(parts: VisionParts, images: dict) -> list[str]:
    """Return what the card says of a server that scales images itself, and of where images stand."""
    lines = [
        "The examples scale images as training did. llama.cpp and Ollama scale them themselves: "
        f"{images['otherwise_in_a_server']} of the {images['images']} images of the test get another number of tokens "
        "there. Scale them before you send them, as `scaled` in `example_llama_cpp.py` does; from 8 to 1024 tokens "
        "they then stay as they are. `llama-server` has options for other limits, here `--image-min-tokens 1 "
        f"--image-max-tokens {parts.most_tokens}`."
    ]
    if not parts.image_first:
        lines.append(
            "In training the image stood after the text. Ollama puts it before, unless `[img]` in the question says "
            "where; `llama-mtmd-cli` likewise, unless `<__media__>` does."
        )
    return lines
