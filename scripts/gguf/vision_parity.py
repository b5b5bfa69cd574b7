"""Compare images in serving and training: their sizes and tokens, and the texts around them."""

from itertools import groupby
from typing import TYPE_CHECKING

import numpy

from scripts.common.chat import conversation_ids, render
from scripts.common.chat_shape import ChatShape
from scripts.common.cli import progress
from scripts.common.records import images_of, texts_in
from scripts.common.vision import VisionTokenizer, cell_size, image_size, load_image
from scripts.gguf.llama import chat_text
from scripts.gguf.llama_vision import Vision, media_marker, prepared_image, with_markers
from scripts.gguf.parity import Comparison, ParityError, check_special_tokens, compare_ids, modelfile_text

if TYPE_CHECKING:
    from llama_cpp import Llama


class ImageParity:
    """Compares conversations with images; `tokenizer` is the training tokenizer."""

    def __init__(self, tokenizer: VisionTokenizer, served: "Llama", vision: Vision):
        self.tokenizer, self.served, self.vision = tokenizer, served, vision
        self.arrays: dict[str, numpy.ndarray] = {}

    def image(self, name: str) -> numpy.ndarray:
        """Return an image as passed to llama.cpp, [height, width, 3] bytes, after a check of its size."""
        if name not in self.arrays:
            array = prepared_image(load_image(self.tokenizer.folder, name), self.vision.image_spec)
            cell, trained = cell_size(self.vision.image_spec), self.tokenizer.grid(name)
            grid = (array.shape[0] // cell, array.shape[1] // cell)
            if grid != trained:
                raise ParityError(
                    f"serving differs from training: {name} has {grid} rows and columns of tokens, not {trained}"
                )
            # The tokens depend only on the size; the pixels of all images would fill the memory.
            self.arrays[name] = blank(*array.shape[:2])
        return self.arrays[name]

    def check_conversation(self, shape: ChatShape, name: str, messages: list[dict], result: Comparison) -> None:
        """Compare one conversation's texts and the sizes of its images. Raises ParityError at the first difference."""
        trained = split_at_images(
            conversation_ids(self.tokenizer, messages),
            self.tokenizer.processor.image_token_id,
            self.tokenizer.processor.image_break_token_id,
        )
        images = [self.image(image) for image in images_of(messages)]
        served = chat_text(self.served, with_markers(messages))
        self.compare(name, trained, served, images, "llama.cpp with the GGUF's template")
        result.equal += 1
        plain = flattened(messages)
        text = modelfile_text(self.served, shape, plain)
        if text is None or chat_text(self.served, plain) != served:
            result.not_expressible.append(name)
        else:
            self.compare(name, trained, text, images, "llama.cpp with the Modelfile's TEMPLATE")
            result.modelfile_equal += 1

    def compare(self, name: str, trained: list, text: str, images: list, served_as: str) -> None:
        """Compare texts and image sizes of training with a marked text's, chunk by chunk."""
        with self.vision.chunks(self.served, text, images) as chunks:
            served = [chunk.tokens if chunk.ids is None else chunk.ids for chunk in chunks]
        if [isinstance(piece, int) for piece in trained] != [isinstance(piece, int) for piece in served]:
            raise ParityError(
                f"serving differs from training: {served_as} orders texts and images differently in '{name}'"
            )
        for number, (ours, theirs) in enumerate(zip(trained, served, strict=True)):
            if isinstance(ours, int) and ours != theirs:
                raise ParityError(
                    f"serving differs from training: image {number // 2 + 1} of '{name}' has {theirs} tokens, "
                    f"not {ours}"
                )
            if not isinstance(ours, int):
                compare_ids(self.served, f"{name}, text {number // 2 + 1}", ours, theirs, served_as)


def blank(height: int, width: int) -> numpy.ndarray:
    """Return a black image that uses no memory."""
    return numpy.broadcast_to(numpy.uint8(0), (height, width, 3))


def flattened(messages: list[dict]) -> list[dict]:
    """Return messages as in Ollama: one text each, with markers for images."""
    return [{**message, "content": "".join(texts_in(message["content"]))} for message in with_markers(messages)]


def split_at_images(ids: list[int], image: int, line: int) -> list[list[int] | int]:
    """Return the token ids between images and, for each image, its number of tokens, including breaks.

    Its end token is the first token of the text after it.
    """
    pieces = [(inside, list(part)) for inside, part in groupby(ids, lambda token: token in (image, line))]
    return [len(part) if inside else part for inside, part in pieces]


def compare_images(parity: ImageParity, shape: ChatShape, conversations: dict[str, list[dict]]) -> dict:
    """Compare the tokens of conversations with images; return the counts."""
    texts = [render(parity.tokenizer, messages) for messages in conversations.values()]
    special = check_special_tokens(parity.tokenizer, parity.served, texts)
    result = Comparison()
    for name, messages in progress(conversations.items(), "compare images", len(conversations)):
        parity.check_conversation(shape, name, messages, result)
    grids = [parity.tokenizer.grid(name) for name in parity.arrays]
    processor = parity.tokenizer.processor
    image_tokens = (processor.image_token, processor.image_break_token, processor.image_end_token)
    return {
        "conversations": result.equal,
        "modelfile": {"equal": result.modelfile_equal, "not_expressible": result.not_expressible},
        "special_tokens": {name: special[name] for name in image_tokens if name in special},
        "images": len(grids),
        "tokens": sum(rows * (columns + 1) for rows, columns in grids),
    }


def images_left_alone(parity: ImageParity, vision: Vision) -> int:
    """Return the number of images with another number of tokens if a server scales them itself; `vision` has its
    limits. This is reported and not an error: llama.cpp has no setting for it.
    """
    sizes = {name: image_size(parity.tokenizer.folder, name) for name in parity.arrays}
    found = {}
    for width, height in set(sizes.values()):
        with vision.chunks(parity.served, media_marker(), [blank(height, width)]) as chunks:
            found[width, height] = sum(chunk.tokens for chunk in chunks if chunk.ids is None)
    grids = {name: parity.tokenizer.grid(name) for name in sizes}
    return sum(found[sizes[name]] != rows * (columns + 1) - 1 for name, (rows, columns) in grids.items())
