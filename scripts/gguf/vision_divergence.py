"""Compare image embeddings, and distributions after images, of llama.cpp and the merged model."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

from scripts.common.chat import conversation_ids
from scripts.common.chat_shape import ChatShape
from scripts.common.records import images_of
from scripts.common.vision import vision_tokenizer
from scripts.gguf.divergence import (
    TextRow,
    compare_rows,
    first_answered,
    load_merged,
    on_device,
    rounded,
    served_logits,
)
from scripts.gguf.llama import open_gguf
from scripts.gguf.llama_vision import open_vision, read_image_spec
from scripts.gguf.parity import ParityError
from scripts.gguf.vision_parity import ImageParity, compare_images, images_left_alone

if TYPE_CHECKING:
    from llama_cpp import Llama

# Relative to the embeddings' norm. Rounding causes some thousandths in fp32 and two hundredths in bf16; wrong rotary
# positions, a missing norm or another activation cause tenths.
LARGEST_ERROR = 0.1
AFTER_IMAGES = "text after images"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageRow(TextRow):
    """A conversation with images; distributions are compared at the positions of text."""

    parity: ImageParity
    messages: list[dict]

    @property
    def places(self) -> list[int]:
        """The positions of text; llama.cpp has no distributions at positions of images."""
        processor = self.parity.tokenizer.processor
        inside = (processor.image_token_id, processor.image_break_token_id)
        return [place for place, token in enumerate(self.ids) if token not in inside]

    def inputs(self) -> dict:
        """Return the pixel values and image sizes for the merged model."""
        return self.parity.tokenizer.pixels(images_of(self.messages))

    def chunks(self, served: "Llama"):
        """Return a context manager for the conversation's chunks."""
        return self.parity.vision.conversation(served, self.messages, self.parity.tokenizer.folder)

    def evaluate(self, served: "Llama") -> None:
        """Evaluate the conversation in llama.cpp from an empty cache."""
        served.reset()
        with self.chunks(served) as chunks:
            self.parity.vision.eval(served, chunks)

    def embeddings(self, served: "Llama") -> list[numpy.ndarray]:
        """Return llama.cpp's embeddings of each image, [tokens, hidden size], including the breaks after its rows."""
        with self.chunks(served) as chunks:
            return [self.parity.vision.embeddings(served, chunk) for chunk in chunks if chunk.ids is None]


def embedding_errors(row: ImageRow, found: list[numpy.ndarray], reference) -> list[float]:
    """Return the relative errors (Frobenius norm) of llama.cpp's embeddings of a row's images, each [tokens, hidden
    size], against the merged model's."""
    import torch
    from numpy.linalg import norm

    processor = row.parity.tokenizer.processor
    grids = [row.parity.tokenizer.grid(name) for name in images_of(row.messages)]
    with torch.inference_mode():
        features = reference.get_image_features(**on_device(row.inputs(), reference)).pooler_output
        ids = torch.tensor([processor.image_break_token_id], device=reference.device)
        [line] = reference.get_input_embeddings()(ids)
    trained = []
    for cells, (rows, columns) in zip(features, grids, strict=True):  # a break between the rows of an image
        breaks = line.expand(rows, 1, -1).to(cells.device)
        whole = torch.cat([cells.reshape(rows, columns, -1), breaks], dim=1).flatten(0, 1)
        trained.append(whole[:-1].float().cpu().numpy())
    return [float(norm(ours - theirs) / norm(ours)) for ours, theirs in zip(trained, found, strict=True)]


def compare_embeddings(rows: list[ImageRow], found: list[list[numpy.ndarray]], reference) -> dict:
    """Compare the embeddings of the rows' images; return the errors. Raises ParityError if one is too large."""
    errors = [
        error for row, images in zip(rows, found, strict=True) for error in embedding_errors(row, images, reference)
    ]
    mean, largest = sum(errors) / len(errors), max(errors)
    log.info("embeddings of %d images: mean error %.4f, largest %.4f", len(errors), mean, largest)
    if not largest <= LARGEST_ERROR:
        raise ParityError(
            f"serving differs from training: image embeddings in llama.cpp differ by {largest:.3g} (relative) from "
            f"the merged model's; the limit is {LARGEST_ERROR:g}",
            remedy="convert the mmproj file again",
        )
    return {"images": len(errors), "mean_error": rounded(mean), "max_error": rounded(largest), "limit": LARGEST_ERROR}


def compare_vision(arguments, shape: ChatShape, texts: list[TextRow], conversations: dict[str, list[dict]]) -> dict:
    """Compare the conversations with images, and the distributions of all conversations; return the report's section.

    `arguments` are those of check_parity.py. Raises ParityError if serving differs from training.
    """
    settings, mmproj, threads = arguments.settings, arguments.mmproj, arguments.threads
    manifest = arguments.merged / "manifest.json"
    tokenizer = vision_tokenizer(manifest, arguments.images, settings)
    image_spec = read_image_spec(mmproj, settings["vision"]["longest_edge"])
    limit, chosen = settings["parity"]["max_kl"], first_answered(conversations, settings["parity"]["prompts"])
    lengths = [len(conversation_ids(tokenizer, messages)) for messages in chosen] + [len(row.ids) for row in texts]
    with open_gguf(arguments.gguf, max(lengths), threads, logits_all=True) as model:
        with open_vision(model, mmproj, image_spec, threads) as vision:
            parity = ImageParity(tokenizer, model, vision)
            found = compare_images(parity, shape, conversations)
            rows = [ImageRow(conversation_ids(tokenizer, messages), parity, messages) for messages in chosen]
            embeddings = [row.embeddings(model) for row in rows]
            served = [served_logits(model, some, what) for what, some in (("text", texts), (AFTER_IMAGES, rows))]
        with open_vision(model, mmproj, None, threads) as vision:
            found["otherwise_in_a_server"] = images_left_alone(parity, vision)
    reference = load_merged(manifest, vision=True)
    divergence = compare_rows(texts, "text", served[0], reference, limit)
    if rows:
        found["embeddings"] = compare_embeddings(rows, embeddings, reference)
        found["divergence"] = compare_rows(rows, AFTER_IMAGES, served[1], reference, limit)
    return {"divergence": divergence, "images": found}
