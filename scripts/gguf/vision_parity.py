"""Does the served model see the images that training saw? Their tokens, embeddings, and what is said after them."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.chat import render, text_ids
from scripts.common.chat_shape import ChatShape
from scripts.common.cli import Progress
from scripts.common.files import check_manifest
from scripts.common.llama import adds_bos, chat_text, open_gguf
from scripts.common.llama_vision import Vision, media_marker, open_vision, prepared_image, sight_of, with_markers
from scripts.common.records import images_of
from scripts.common.vision import (
    VisionTokenizer,
    cell_size,
    image_size,
    load_image,
    pixel_inputs,
    vision_tokenizer,
)
from scripts.gguf.divergence import ServedRows, TextRow, compare_rows, first_answered, load_merged, on_device, rounded
from scripts.gguf.parity import ParityError, check_special_tokens, compare_ids, is_expressible

if TYPE_CHECKING:
    import numpy
    from llama_cpp import Llama

# Of the embeddings' length. Rounding makes some thousandths in fp32 and two hundredths in bf16; wrong rotary positions,
# a missing norm or another activation make tenths.
LARGEST_ERROR = 0.1
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Eyes:
    """A vision run's files: its mmproj file, and the folder in which images lie."""

    mmproj: Path
    images: Path


@dataclass
class ImageComparison:
    """What was compared so far: conversations that are equal with the GGUF's template and with the Modelfile's, and the
    names of those that no TEMPLATE can write."""

    equal: int = 0
    modelfile_equal: int = 0
    not_expressible: list[str] = field(default_factory=list)


class ImageParity:
    """Compares conversations with images; `tokenizer` is that of training."""

    def __init__(self, tokenizer: VisionTokenizer, served: "Llama", vision: Vision):
        self.tokenizer, self.served, self.vision = tokenizer, served, vision
        self.arrays: dict[str, numpy.ndarray] = {}

    def image(self, name: str) -> "numpy.ndarray":
        """Return an image as llama.cpp gets it, [height, width, 3] bytes, after a check of its size."""
        if name not in self.arrays:
            array = prepared_image(load_image(self.tokenizer.folder, name), self.vision.sight)
            cell, trained = cell_size(self.vision.sight), self.tokenizer.grid(name)
            grid = (array.shape[0] // cell, array.shape[1] // cell)
            if grid != trained:
                raise ParityError(f"served is not trained: {name} has {grid} rows and columns of tokens, not {trained}")
            # Only the size counts for the tokens; the pixels of all images would fill the memory.
            self.arrays[name] = blank(*array.shape[:2])
        return self.arrays[name]

    def check_conversation(self, shape: ChatShape, name: str, messages: list[dict], result: ImageComparison) -> None:
        """Compare one conversation's texts and the sizes of its images. Raises ParityError at the first difference."""
        open_ended = messages[-1]["role"] != "assistant"
        trained = split_at_images(
            image_ids(self.tokenizer, messages),
            self.tokenizer.processor.image_token_id,
            self.tokenizer.processor.image_break_token_id,
        )
        images = [self.image(image) for image in images_of(messages)]
        served = chat_text(self.served, with_markers(messages), open_ended)
        self.compare(name, trained, served, images, "llama.cpp with the GGUF's template")
        result.equal += 1
        plain = flattened(messages)
        if is_expressible(shape, plain) and chat_text(self.served, plain, open_ended) == served:
            text = shape.render(plain)
            text = text.removeprefix(shape.bos) if adds_bos(self.served) else text
            self.compare(name, trained, text, images, "llama.cpp with the Modelfile's TEMPLATE")
            result.modelfile_equal += 1
        else:
            result.not_expressible.append(name)

    def compare(self, name: str, trained: list, text: str, images: list, served_as: str) -> None:
        """Compare texts and image sizes of training with a marked text's, chunk by chunk."""
        with self.vision.chunks(self.served, text, images) as chunks:
            served = [chunk.tokens if chunk.ids is None else chunk.ids for chunk in chunks]
        if [isinstance(piece, int) for piece in trained] != [isinstance(piece, int) for piece in served]:
            raise ParityError(f"served is not trained: {served_as} has other images and texts between in '{name}'")
        for number, (ours, theirs) in enumerate(zip(trained, served, strict=True)):
            if isinstance(ours, int) and ours != theirs:
                raise ParityError(
                    f"served is not trained: image {number // 2 + 1} of '{name}' has {theirs} tokens in llama.cpp, "
                    f"{ours} in training"
                )
            if not isinstance(ours, int):
                compare_ids(self.served, f"{name}, text {number // 2 + 1}", ours, theirs, served_as)


def blank(height: int, width: int) -> "numpy.ndarray":
    """Return a black image that takes no memory."""
    import numpy

    return numpy.broadcast_to(numpy.uint8(0), (height, width, 3))


def flattened(messages: list[dict]) -> list[dict]:
    """Return messages as Ollama has them: one text each, with marks in it for images."""
    marked = with_markers(messages)
    parts = [m["content"] if isinstance(m["content"], list) else [{"text": m["content"]}] for m in marked]
    texts = ["".join(part["text"] for part in content) for content in parts]
    return [{**message, "content": text} for message, text in zip(marked, texts, strict=True)]


def split_at_images(ids: list[int], image: int, line: int) -> list[list[int] | int]:
    """Return the token ids between images and, for each image, how many tokens it has, breaks included.

    Its end token begins the text after it.
    """
    pieces: list[list[int] | int] = []
    for token in ids:
        inside = token in (image, line)
        if not pieces or isinstance(pieces[-1], int) != inside:
            pieces.append(0 if inside else [])
        if inside:
            pieces[-1] += 1
        else:
            pieces[-1].append(token)
    return pieces


@dataclass(frozen=True)
class ImageRow(TextRow):
    """A conversation with images, for the comparison of distributions: at its texts' positions."""

    parity: ImageParity
    messages: list[dict]

    @property
    def places(self) -> list[int]:
        """The positions of text; llama.cpp has no distributions for those of images."""
        processor = self.parity.tokenizer.processor
        inside = (processor.image_token_id, processor.image_break_token_id)
        return [place for place, token in enumerate(self.ids) if token not in inside]

    def images(self) -> list:
        """Return the conversation's images."""
        return [load_image(self.parity.tokenizer.folder, name) for name in images_of(self.messages)]

    def inputs(self) -> dict:
        """Return the pixel values and sizes that the merged model gets."""
        return pixel_inputs(self.parity.tokenizer.processor, self.images())

    def chunks(self, served: "Llama"):
        """Return the context of the conversation's chunks."""
        text = chat_text(served, with_markers(self.messages), self.messages[-1]["role"] != "assistant")
        arrays = [prepared_image(image, self.parity.vision.sight) for image in self.images()]
        return self.parity.vision.chunks(served, text, arrays)

    def evaluate(self, served: "Llama") -> None:
        """Have llama.cpp evaluate the conversation from an empty cache."""
        served.reset()
        with self.chunks(served) as chunks:
            self.parity.vision.eval(served, chunks)

    def embeddings(self, served: "Llama") -> list["numpy.ndarray"]:
        """Return what llama.cpp makes of each image, [tokens, hidden size], the breaks after its rows included."""
        with self.chunks(served) as chunks:
            return [self.parity.vision.embeddings(served, chunk) for chunk in chunks if chunk.ids is None]


def embedding_errors(row: ImageRow, found: list["numpy.ndarray"], reference) -> list[float]:
    """Return how far the embeddings that llama.cpp made of a row's images, each [tokens, hidden size], are from the
    merged model's, of their length (Frobenius norm)."""
    import torch
    from numpy.linalg import norm

    processor = row.parity.tokenizer.processor
    grids = [row.parity.tokenizer.grid(name) for name in images_of(row.messages)]
    with torch.inference_mode():
        features = reference.get_image_features(**on_device(row.inputs(), reference)).pooler_output
    line = reference.get_input_embeddings().weight.detach()[processor.image_break_token_id]
    trained = [with_breaks(cells, line, grid) for cells, grid in zip(features, grids, strict=True)]
    return [float(norm(ours - theirs) / norm(ours)) for ours, theirs in zip(trained, found, strict=True)]


def with_breaks(cells, line, grid: tuple[int, int]) -> "numpy.ndarray":
    """Return an image's embeddings as the model reads them: `cells` [rows * columns, hidden size] in rows, and between
    these the embedding `line` of a break."""
    import torch

    rows, columns = grid
    breaks = line.expand(rows, 1, -1).to(cells.device)
    whole = torch.cat([cells.reshape(rows, columns, -1), breaks], dim=1).flatten(0, 1)
    return whole[:-1].float().cpu().numpy()


def compare_embeddings(rows: list[ImageRow], found: list[list["numpy.ndarray"]], reference) -> dict:
    """Compare the embeddings of the rows' images; return the errors. Raises ParityError for one that is too large."""
    errors = [
        error for row, images in zip(rows, found, strict=True) for error in embedding_errors(row, images, reference)
    ]
    mean, largest = sum(errors) / len(errors), max(errors)
    log.info("embeddings of %d images: mean error %.4f, largest %.4f", len(errors), mean, largest)
    if not largest <= LARGEST_ERROR:
        raise ParityError(
            f"served is not trained: an image's embeddings in llama.cpp are {largest:.3g} of their length away from "
            f"the merged model's, the limit is {LARGEST_ERROR:g}",
            remedy="make the mmproj file again",
        )
    return {
        "images": len(errors),
        "mean_error": rounded(mean),
        "max_error": rounded(largest),
        "limit": LARGEST_ERROR,
    }


def compare_images(parity: ImageParity, shape: ChatShape, conversations: dict[str, list[dict]]) -> dict:
    """Compare the tokens of conversations with images; return what was found."""
    texts = [render(parity.tokenizer, messages) for messages in conversations.values()]
    special = check_special_tokens(parity.tokenizer, parity.served, texts)
    result, bar = ImageComparison(), Progress("compare images", len(conversations))
    for name, messages in conversations.items():
        parity.check_conversation(shape, name, messages, result)
        bar.advance()
    grids = [parity.tokenizer.grid(name) for name in parity.arrays]
    return {
        "conversations": result.equal,
        "modelfile": {"equal": result.modelfile_equal, "not_expressible": result.not_expressible},
        "special_tokens": {name: special[name] for name in image_tokens(parity.tokenizer) if name in special},
        "images": len(grids),
        "tokens": sum(rows * (columns + 1) for rows, columns in grids),
    }


def image_tokens(tokenizer: VisionTokenizer) -> tuple[str, str, str]:
    """Return the texts of the tokens that images consist of."""
    processor = tokenizer.processor
    return processor.image_token, processor.image_break_token, processor.image_end_token


def images_left_alone(parity: ImageParity, vision: Vision) -> int:
    """Return how many images get another number of tokens where a server scales them itself; `vision` has its limits.

    It is said and not refused: llama.cpp has no setting for it.
    """
    sizes = {name: image_size(parity.tokenizer.folder, name) for name in parity.arrays}
    found = {}
    for width, height in set(sizes.values()):
        with vision.chunks(parity.served, media_marker(), [blank(height, width)]) as chunks:
            found[width, height] = sum(chunk.tokens for chunk in chunks if chunk.ids is None)
    grids = {name: parity.tokenizer.grid(name) for name in sizes}
    return sum(found[sizes[name]] != rows * (columns + 1) - 1 for name, (rows, columns) in grids.items())


def compare_vision(
    merged: Path,
    path: Path,
    eyes: Eyes,
    settings: dict,
    threads: int,
    shape: ChatShape,
    texts: list[TextRow],
    conversations: dict[str, list[dict]],
) -> dict:
    """Compare the conversations with images, and the distributions of texts and of them; return the report's part.

    Raises ParityError when served is not trained.
    """
    trusted = check_manifest(merged / "manifest.json").get("trust_remote_code", False)
    tokenizer = vision_tokenizer(merged / "manifest.json", eyes.images, settings)
    sight = sight_of(eyes.mmproj, settings["vision"]["longest_edge"])
    limit, chosen = settings["parity"]["max_kl"], first_answered(conversations, settings["parity"]["prompts"])
    lengths = [len(image_ids(tokenizer, messages)) for messages in chosen] + [len(row.ids) for row in texts]
    with open_gguf(path, max(lengths), threads, logits_all=True) as model:
        with open_vision(model, eyes.mmproj, sight, threads) as vision:
            parity = ImageParity(tokenizer, model, vision)
            found = compare_images(parity, shape, conversations)
            rows = [ImageRow(image_ids(tokenizer, messages), parity, messages) for messages in chosen]
            embeddings = [row.embeddings(model) for row in rows]
            served = [ServedRows(model, texts, "text"), ServedRows(model, rows, "text after images")]
        with open_vision(model, eyes.mmproj, None, threads) as vision:
            found["otherwise_in_a_server"] = images_left_alone(parity, vision)
    reference = load_merged(merged, trusted, sees=True)
    divergence = compare_rows(served[0], reference, limit)
    if rows:
        found["embeddings"] = compare_embeddings(rows, embeddings, reference)
        found["divergence"] = compare_rows(served[1], reference, limit)
    return {"divergence": divergence, "images": found}


def image_ids(tokenizer: VisionTokenizer, messages: list[dict]) -> list[int]:
    """Return the token ids of a conversation, its images' included."""
    return text_ids(tokenizer, render(tokenizer, messages, messages[-1]["role"] != "assistant"))


def vision_conversations(conversations: dict[str, list[dict]]) -> tuple[dict, dict]:
    """Split conversations into those of text and those with images."""
    seen = {name: messages for name, messages in conversations.items() if images_of(messages)}
    return {name: messages for name, messages in conversations.items() if name not in seen}, seen
