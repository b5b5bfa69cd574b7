"""llama.cpp with eyes: a prompt with images as libmtmd splits it, and its evaluation.

The chat template writes libmtmd's marker where an image stands, as in llama.cpp's server; libmtmd puts the image's
embeddings there, [IMG_BREAK] after each row but the last included, and [IMG_END] as text after them.

An image is scaled here, by the image processor that training used, and libmtmd gets it at its final size. Left alone it
would scale otherwise: to the nearest multiple of a patch instead of the next larger one, and down to 1024 tokens
(`set_limit_image_tokens` in tools/mtmd/clip.cpp).
"""

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common import llama
from scripts.common.errors import UserError
from scripts.common.gguf_header import read_header

if TYPE_CHECKING:
    import numpy
    from llama_cpp import Llama

LONGEST_EDGE = "clip.vision.preproc_image_size"  # where llama.cpp's other image processors have it
PATCH, MERGE = "clip.vision.patch_size", "clip.vision.spatial_merge_size"


@dataclass(frozen=True)
class ImageSize:
    """How large images may be: longest edge and side of the square that becomes a token, in pixels."""

    longest_edge: int
    unit: int

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Return rows and columns of tokens of an image, as `get_resize_output_image_size` of Pixtral has them."""
        ratio = max(width, height) / self.longest_edge
        if ratio > 1:
            width, height = math.floor(width / ratio), math.floor(height / ratio)
        return (height - 1) // self.unit + 1, (width - 1) // self.unit + 1

    @property
    def most_tokens(self) -> int:
        """The tokens of the largest image."""
        return (-(-self.longest_edge // self.unit)) ** 2


def image_size(mmproj: Path | str, longest_edge: int | None = None) -> ImageSize:
    """Return how large images may be by an mmproj file, or with another longest edge in pixels.

    Raises UserError for a file that is none.
    """
    values = read_header(mmproj).values
    missing = [key for key in (LONGEST_EDGE, PATCH, MERGE) if key not in values]
    if missing:
        raise UserError(f"has no {missing[0]}", mmproj, remedy="make it with scripts/gguf/convert_mmproj.py")
    return ImageSize(longest_edge or values[LONGEST_EDGE], values[PATCH] * values[MERGE])


def prepared_image(path: Path | str, size: ImageSize) -> "numpy.ndarray":
    """Return an image at the size at which the model sees it, [height, width, 3] bytes."""
    from PIL import Image
    from transformers.models.pixtral import PixtralImageProcessor

    processor = PixtralImageProcessor(
        size={"longest_edge": size.longest_edge}, patch_size={"height": size.unit, "width": size.unit}
    )
    with Image.open(path) as image:
        pixels = processor(image.convert("RGB"), do_rescale=False, do_normalize=False, return_tensors="pt")
    return pixels["pixel_values"][0].permute(1, 2, 0).contiguous().numpy()


def media_marker() -> str:
    """Return the text that stands for an image in a prompt for libmtmd."""
    from llama_cpp import mtmd_cpp

    return mtmd_cpp.mtmd_default_marker().decode()


def with_markers(messages: list[dict]) -> list[dict]:
    """Return messages with libmtmd's marker as text in each image's place, as llama.cpp's server puts it there.

    Raises UserError where a text holds the marker.
    """
    marker = media_marker()

    def marked(part: dict) -> dict:
        if part["type"] == "image":
            return {"type": "text", "text": marker}
        if marker in part["text"]:
            raise UserError(f"a message holds '{marker}', which stands for an image in llama.cpp")
        return part

    def marked_content(content: str | list[dict]) -> str | list[dict]:
        if isinstance(content, str):
            return marked({"type": "text", "text": content})["text"]
        return [marked(part) for part in content]

    return [{**message, "content": marked_content(message["content"])} for message in messages]


def pieces_ids(model: "Llama", text: str) -> list[list[int]]:
    """Return the token ids of the texts between a marked text's images, as libmtmd makes them but for [IMG_END].

    BOS is there once, as in `scripts.common.llama.token_ids`.
    """
    first, *others = text.split(media_marker())
    ids = [llama.token_ids(model, first)]
    return ids + [model.tokenize(other.encode("utf-8"), add_bos=False, special=True) for other in others]


def count_tokens(model: "Llama", text: str, grids: list[tuple[int, int]]) -> int:
    """Return how many tokens a marked text has whose images have these rows and columns.

    An image has one for each place of its grid, a break after each row but the last, and an end.
    """
    return sum(map(len, pieces_ids(model, text))) + sum(rows * (columns + 1) for rows, columns in grids)


@contextmanager
def open_vision(model: "Llama", mmproj: Path | str, size: ImageSize, threads: int | None = None) -> Iterator["Vision"]:
    """Open an mmproj file for an open model, and close it when the block ends.

    Raises UserError for a file that llama.cpp can't load or that belongs to another model.
    """
    import llama_cpp
    from llama_cpp import mtmd_cpp

    llama.keep_native_lines()
    mtmd_cpp.mtmd_log_set(llama.native_callback, ctypes.c_void_p(0))
    mtmd_cpp.mtmd_helper_log_set(llama.native_callback, ctypes.c_void_p(0))
    options = mtmd_cpp.mtmd_context_params_default()
    options.use_gpu = llama_cpp.llama_supports_gpu_offload()
    options.print_timings = False
    options.n_threads = threads or options.n_threads
    options.image_min_tokens, options.image_max_tokens = 1, size.most_tokens
    context = mtmd_cpp.mtmd_init_from_file(str(mmproj).encode(), model.model, options)
    if not context:
        llama.show_native_lines()
        raise UserError(f"llama.cpp can't load it: {llama.last_native_fault()}", mmproj)
    llama.native_lines.clear()
    try:
        yield Vision(context, size)
    except UserError:
        raise
    except BaseException:
        llama.show_native_lines()
        raise
    finally:
        mtmd_cpp.mtmd_free(context)


class Vision:
    """An open mmproj file: makes chunks of text and images, and evaluates them."""

    def __init__(self, context: int, size: ImageSize):
        self.context, self.size = context, size

    @contextmanager
    def chunks(self, model: "Llama", text: str, images: list[Path]) -> Iterator[list["Chunk"]]:
        """Yield a marked text's chunks: what is between images, and the images, in order.

        Raises UserError where the text has another number of markers than there are images.
        """
        with self.raw_chunks(model, text, [prepared_image(path, self.size) for path in images]) as chunks:
            yield chunks

    @contextmanager
    def raw_chunks(self, model: "Llama", text: str, images: list["numpy.ndarray"]) -> Iterator[list["Chunk"]]:
        """Yield the chunks of a marked text and images that are arrays of [height, width, 3] bytes."""
        from llama_cpp import mtmd_cpp

        markers = text.count(media_marker())
        if markers != len(images):
            raise UserError(f"the chat template writes {markers} images of {len(images)}")
        handle = mtmd_cpp.mtmd_input_chunks_init()
        bitmaps = [bitmap_of(image) for image in images]
        data = text.encode("utf-8")
        bos = llama.token_text(model, model.token_bos())
        asked = mtmd_cpp.mtmd_input_text(data, len(data), not (bos and text.startswith(bos)), True)
        try:
            array = (mtmd_cpp.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
            if mtmd_cpp.mtmd_tokenize(self.context, handle, ctypes.byref(asked), array, len(bitmaps)):
                raise UserError(f"llama.cpp can't take in a prompt with images: {llama.last_native_fault()}")
            count = mtmd_cpp.mtmd_input_chunks_size(handle)
            yield [chunk_of(mtmd_cpp.mtmd_input_chunks_get(handle, i)) for i in range(count)]
        finally:
            for bitmap in bitmaps:
                mtmd_cpp.mtmd_bitmap_free(bitmap)
            mtmd_cpp.mtmd_input_chunks_free(handle)

    def eval(self, model: "Llama", chunks: list["Chunk"]) -> None:
        """Evaluate chunks after what the model has in its cache; logits are those of text only."""
        for chunk in chunks:
            if model.n_tokens + chunk.tokens > model.n_ctx():
                raise UserError(f"a prompt with images needs more than the context of {model.n_ctx()} tokens")
            if chunk.ids is None:
                self.eval_image(model, chunk)
            else:
                model.eval(chunk.ids)

    def eval_image(self, model: "Llama", chunk: "Chunk") -> None:
        """Evaluate an image after what the model has in its cache."""
        import llama_cpp
        from llama_cpp import mtmd_cpp

        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(model.ctx), -1, model.n_tokens, -1)
        place = llama_cpp.llama_pos(0)
        fault = mtmd_cpp.mtmd_helper_eval_chunk_single(
            self.context, model.ctx, chunk.handle, model.n_tokens, 0, model.n_batch, False, ctypes.byref(place)
        )
        if fault:
            raise UserError(f"llama.cpp can't evaluate an image: {llama.last_native_fault()}")
        model.n_tokens = place.value

    def embeddings(self, model: "Llama", chunk: "Chunk") -> "numpy.ndarray":
        """Return an image's embeddings, [tokens, hidden size], the breaks after its rows included."""
        import numpy
        from llama_cpp import mtmd_cpp

        if mtmd_cpp.mtmd_encode_chunk(self.context, chunk.handle):
            raise UserError(f"llama.cpp can't encode an image: {llama.last_native_fault()}")
        found = mtmd_cpp.mtmd_get_output_embd(self.context)
        return numpy.ctypeslib.as_array(found, shape=(chunk.tokens, model.n_embd())).copy()


@dataclass(frozen=True)
class Chunk:
    """A piece of a prompt: token ids of a text, or an image of so many tokens (`ids` is None)."""

    handle: int
    tokens: int
    ids: list[int] | None


def chunk_of(handle: int) -> Chunk:
    """Return a chunk of libmtmd."""
    from llama_cpp import mtmd_cpp

    tokens = mtmd_cpp.mtmd_input_chunk_get_n_tokens(handle)
    if mtmd_cpp.mtmd_input_chunk_get_type(handle) != mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_TEXT:
        return Chunk(handle, tokens, None)
    length = ctypes.c_size_t()
    ids = mtmd_cpp.mtmd_input_chunk_get_tokens_text(handle, ctypes.byref(length))
    return Chunk(handle, tokens, ids[: length.value])


def bitmap_of(image: "numpy.ndarray") -> int:
    """Return a bitmap of libmtmd with a copy of an image's [height, width, 3] bytes."""
    from llama_cpp import mtmd_cpp

    height, width, _ = image.shape
    data = (ctypes.c_uint8 * image.size).from_buffer_copy(image.tobytes())
    return mtmd_cpp.mtmd_bitmap_init(width, height, data)
