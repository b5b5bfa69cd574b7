"""Compare next-token distributions of the merged model and its GGUF file, position by position."""

import logging
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from scripts.common.base_model import has_room
from scripts.common.cli import progress
from scripts.common.files import check_manifest
from scripts.common.garbage import collect_as_usual
from scripts.common.number_format import is_native
from scripts.gguf.parity import ParityError, divergences

if TYPE_CHECKING:
    from llama_cpp import Llama

POSITIONS_AT_ONCE = 128
LARGEST_IN_FULL_PRECISION = 4_000_000_000  # bytes of weights; larger models are compared in bf16 where that is native
log = logging.getLogger(__name__)


def load_merged(manifest: Path, vision: bool = False):
    """Load the merged (vision) model for the reference logits: on the GPU if it fits, in float32 unless it is large.

    Layers that do not fit stay in main memory, and those that do not fit there either in the folder's files: slower,
    with the same logits. accelerate then copies each layer when it is needed.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    size = sum(path.stat().st_size for path in manifest.parent.glob("*.safetensors"))
    small = size <= LARGEST_IN_FULL_PRECISION or not is_native("bf16")
    # In float32 a model needs twice the size of its files.
    needed = size * (2 if small else 1)
    roomy = torch.cuda.is_available() and has_room(needed, torch.cuda.mem_get_info()[0])
    collect_as_usual()
    model = kind.from_pretrained(
        manifest.parent,
        dtype=torch.float32 if small else torch.bfloat16,
        use_safetensors=True,
        trust_remote_code=check_manifest(manifest).get("trust_remote_code", False),
        device_map=torch.device("cuda") if roomy else "auto",
    )
    return model.eval()


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


def served_logits(served: "Llama", rows: list[TextRow], what: str) -> numpy.memmap:
    """Return llama.cpp's logits at the rows' positions, [positions, vocabulary], in a temporary file.

    The GGUF file can thus be closed before the merged model is loaded: large models don't fit a GPU twice.
    """
    shape, start = (sum(len(row.places) for row in rows), served.n_vocab()), 0
    if not rows:
        return numpy.empty(shape)
    file = tempfile.TemporaryFile()  # noqa: SIM115 (deleted with the array)
    # Reserved, because a process that writes to mapped memory on a full disk is killed without a message.
    os.posix_fallocate(file.fileno(), 0, math.prod(shape) * numpy.dtype(numpy.float32).itemsize)
    found = numpy.memmap(file, numpy.float32, "w+", shape=shape)
    for row in progress(rows, f"evaluate {what} in llama.cpp", len(rows)):
        row.evaluate(served)
        found[start : start + len(row.places)] = served.scores[row.places]
        start += len(row.places)
    return found


def compare_rows(rows: list[TextRow], what: str, served: numpy.memmap, reference, limit: float) -> dict:
    """Compare next-token distributions with those of `served_logits`; return the KL divergence in nats.

    Raises ParityError if the mean exceeds the limit.
    """
    import torch

    values, agreeing, start = [], 0, 0
    for row in progress(rows, f"compare distributions of {what}", len(rows)):
        inputs = on_device({"input_ids": torch.tensor([row.ids]), **row.inputs()}, reference)
        with torch.inference_mode():
            logits = reference(**inputs).logits[0].float().cpu().numpy()
        width = min(logits.shape[-1], served.shape[-1])
        for first in range(0, len(row.places), POSITIONS_AT_ONCE):
            part = row.places[first : first + POSITIONS_AT_ONCE]
            ours, theirs = logits[part, :width], served[start : start + len(part), :width]
            values.append(divergences(ours, theirs))
            agreeing += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
            start += len(part)
    found = numpy.concatenate(values)
    mean = float(found.mean())
    log.info("KL divergence: mean %.6f, largest %.6f nats over %d positions (%s)", mean, max(found), len(found), what)
    if not mean <= limit:
        row, place = [(number, place) for number, row in enumerate(rows) for place in row.places][int(found.argmax())]
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


def rounded(value: float) -> float:
    """Round a number to four significant digits: further digits depend on the machine."""
    return float(f"{value:.4g}")
