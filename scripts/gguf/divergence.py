"""Compare next-token distributions of the merged model and its GGUF file, position by position."""

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.base_model import has_room
from scripts.common.cli import Progress
from scripts.common.number_format import is_native
from scripts.gguf.parity import ParityError, divergences

if TYPE_CHECKING:
    import numpy
    from llama_cpp import Llama

POSITIONS_AT_ONCE = 128
LARGEST_IN_FULL_PRECISION = 4_000_000_000  # bytes of weights; larger models are compared in bf16 where that is native
log = logging.getLogger(__name__)


def load_merged(folder: Path, trust_remote_code: bool, vision: bool = False):
    """Load the merged model for the reference logits: on the GPU if it fits, in the highest precision that fits.

    `sees`: whether it is a vision model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    small = size <= LARGEST_IN_FULL_PRECISION or not is_native("bf16")
    model = kind.from_pretrained(
        folder,
        dtype=torch.float32 if small else torch.bfloat16,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
    )
    # In float32 a model needs twice the size of its files.
    needed = size * (2 if small else 1)
    roomy = torch.cuda.is_available() and has_room(needed, torch.cuda.mem_get_info()[0])
    return model.to("cuda" if roomy else "cpu").eval()


@dataclass(frozen=True)
class TextRow:
    """The token ids of a conversation of text."""

    ids: list[int]

    @property
    def places(self) -> list[int]:
        """The positions to compare distributions at."""
        return list(range(len(self.ids)))

    def inputs(self) -> dict:
        """Return the inputs of the merged model other than token ids."""
        return {}

    def evaluate(self, served: "Llama") -> None:
        """Evaluate the conversation in llama.cpp from an empty cache."""
        served.reset()
        served.eval(self.ids)


def first_answered(conversations: dict[str, list[dict]], count: int) -> list[list[dict]]:
    """Return the first conversations, those with an answer if there are any; the name says whether there is one."""
    answered = [messages for name, messages in conversations.items() if name.endswith("answered")]
    return (answered or [*conversations.values()])[:count]


def on_device(inputs: dict, reference) -> dict:
    """Return tensors on a model's device, floating-point ones in its precision."""
    return {
        name: tensor.to(reference.device, reference.dtype if tensor.is_floating_point() else None)
        for name, tensor in inputs.items()
    }


def reference_logits(reference, row: TextRow) -> "numpy.ndarray":
    """Return the merged model's logits of a row, [positions, vocabulary]."""
    import torch

    inputs = on_device({"input_ids": torch.tensor([row.ids]), **row.inputs()}, reference)
    with torch.inference_mode():
        return reference(**inputs).logits[0].float().cpu().numpy()


class ServedRows:
    """llama.cpp's logits of rows, in a temporary file.

    The GGUF file can thus be closed before the merged model is loaded: large models don't fit a GPU twice.
    """

    def __init__(self, served: "Llama", rows: list[TextRow], what: str):
        self.rows, self.what, self.width = rows, what, served.n_vocab()
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (read later; deleted with this object)
        bar = Progress(f"evaluate {what} in llama.cpp", len(rows))
        for row in rows:
            row.evaluate(served)
            for part in parts_of(row):
                served.scores[part].tofile(self.file)
            bar.advance()

    def read(self, row: TextRow) -> Iterator[tuple[list[int], "numpy.ndarray"]]:
        """Yield parts of a row's positions with their logits, [positions, vocabulary]."""
        import numpy

        for part in parts_of(row):
            found = numpy.fromfile(self.file, numpy.float32, len(part) * self.width)
            yield part, found.reshape(len(part), self.width)


def parts_of(row: TextRow) -> list[list[int]]:
    """Return a row's positions in parts that fit the memory."""
    places = row.places
    return [places[start : start + POSITIONS_AT_ONCE] for start in range(0, len(places), POSITIONS_AT_ONCE)]


def compare_rows(served: ServedRows, reference, limit: float) -> dict:
    """Compare next-token distributions at the rows' positions; return the KL divergence in nats.

    Raises ParityError if the mean exceeds the limit.
    """
    import numpy

    rows, values, agreeing = served.rows, [], 0
    bar = Progress(f"compare distributions of {served.what}", len(rows))
    served.file.seek(0)
    for row in rows:
        logits = reference_logits(reference, row)
        width = min(logits.shape[-1], served.width)
        for part, found in served.read(row):
            ours, theirs = logits[part, :width], found[:, :width]
            values.append(divergences(ours, theirs))
            agreeing += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        bar.advance()
    found = numpy.concatenate(values)
    mean, what = float(found.mean()), served.what
    log.info("KL divergence: mean %.6f, largest %.6f nats over %d positions (%s)", mean, max(found), len(found), what)
    if not mean <= limit:
        row, place = position_of(int(found.argmax()), rows)
        raise ParityError(
            f"serving differs from training: the next-token distribution is {mean:.4g} nats (mean KL) from the merged "
            f"model's, the limit is {limit:g}; largest at token {place} of prompt {row + 1} ({what})",
            remedy="convert the merged model again; raise 'parity.max_kl' only if you know why",
        )
    return {
        "mean": rounded(mean),
        "max": rounded(float(found.max())),
        "limit": limit,
        "positions": len(found),
        "prompts": len(rows),
        "top_token_agreement": rounded(agreeing / len(found)),
    }


def position_of(place: int, rows: list[TextRow]) -> tuple[int, int]:
    """Convert an index over all rows' positions to row and position."""
    for number, row in enumerate(rows):
        if place < len(row.places):
            return number, row.places[place]
        place -= len(row.places)
    raise IndexError(place)


def rounded(value: float) -> float:
    """Round a number to four significant digits: further digits depend on the machine."""
    return float(f"{value:.4g}")
