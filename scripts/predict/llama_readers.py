"""Evaluate conversations in llama.cpp: text, or text and images."""

from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.records import images_of
from scripts.common.vision import image_grid, image_size
from scripts.gguf.llama import can_drop_tokens, chat_text, first_difference, token_ids
from scripts.gguf.llama_vision import open_vision, pieces_ids, read_image_spec, with_markers

if TYPE_CHECKING:
    from llama_cpp import Llama

IMAGE_END = b"[IMG_END]"  # as libmtmd writes it
OTHER_QUESTION = "0"


class TextReader:
    """Reads conversations of text.

    The part before the last question (system message, examples) is the same in most prompts and is evaluated once.
    """

    def __init__(self):
        self.prefix: list[int] = []

    def opened(self, model: "Llama", threads: int) -> AbstractContextManager:
        """Return a context manager within which `read` works."""
        return nullcontext()

    def count(self, model: "Llama", messages: list[dict]) -> int:
        """Return the number of tokens of a conversation."""
        return len(self.tail(model, messages))

    def tail(self, model: "Llama", messages: list[dict]) -> list[int]:
        """Return the token ids of a conversation after its last image: here all."""
        return token_ids(model, chat_text(model, messages))

    def read(self, model: "Llama", messages: list[dict]) -> list[int]:
        """Evaluate a conversation up to its last question; return the token ids of the rest."""
        ids = self.tail(model, messages)
        prefix = ids[: shared_length(model, messages, ids)]
        kept = model.input_ids[: model.n_tokens][: len(prefix)].tolist()
        if not prefix or not prefix == self.prefix == kept:
            model.reset()
            model.eval(prefix)
            self.prefix = prefix
        model.n_tokens = len(prefix)
        return ids[len(prefix) :]


def shared_length(model: "Llama", messages: list[dict], ids: list[int]) -> int:
    """Return the number of a conversation's token ids that do not depend on its last question.

    It depends only on the conversation, so an answer does not depend on earlier prompts.
    """
    if not can_drop_tokens(model):
        return 0
    last = max(place for place, message in enumerate(messages) if message["role"] == "user")
    other = token_ids(model, chat_text(model, [*messages[:last], {"role": "user", "content": OTHER_QUESTION}]))
    return min(first_difference(ids, other), len(ids) - 1)


class ImageReader:
    """Reads conversations with images of a dataset's result folder; for the methods see `TextReader`.

    `longest_edge`, in pixels, may lower that of the mmproj file.
    """

    def __init__(self, mmproj: Path, folder: Path, longest_edge: int | None):
        self.mmproj, self.folder, self.vision = mmproj, folder, None
        self.image_spec = read_image_spec(mmproj, longest_edge)

    @contextmanager
    def opened(self, model: "Llama", threads: int):
        """Open the mmproj file for a model; closed when the block ends."""
        with open_vision(model, self.mmproj, self.image_spec, threads) as self.vision:
            yield
        self.vision = None

    def count(self, model: "Llama", messages: list[dict]) -> int:
        """Return the number of tokens of a conversation: an image has one per grid cell and one per row."""
        texts = pieces_ids(model, chat_text(model, with_markers(messages)))
        grids = [image_grid(self.image_spec, image_size(self.folder, name)) for name in images_of(messages)]
        return sum(map(len, texts)) + sum(rows * (columns + 1) for rows, columns in grids)

    def tail(self, model: "Llama", messages: list[dict]) -> list[int]:
        """Return the token ids of a conversation after its last image, including the image's end token."""
        texts = pieces_ids(model, chat_text(model, with_markers(messages)))
        end = model.tokenize(IMAGE_END, add_bos=False, special=True) if len(texts) > 1 else []
        return end + texts[-1]

    def read(self, model: "Llama", messages: list[dict]) -> list[int]:
        """Evaluate a conversation up to its last image, from an empty cache; return the token ids of the rest."""
        model.reset()
        with self.vision.conversation(model, messages, self.folder) as chunks:
            self.vision.eval(model, chunks[:-1])
            return chunks[-1].ids
