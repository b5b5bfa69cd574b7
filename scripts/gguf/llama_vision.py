"""Evaluate prompts with images in llama.cpp, split into chunks by libmtmd.

The chat template writes libmtmd's marker for each image, as in llama.cpp's server; libmtmd replaces it by the image's
embeddings, with [IMG_BREAK] after each row but the last, and [IMG_END] as text after them.

Images are scaled here by the image processor of training, so libmtmd gets them at their final size. Otherwise it would
scale differently: to the nearest multiple of a patch instead of the next larger one, and down to 1024 tokens
(`set_limit_image_tokens` in tools/mtmd/clip.cpp).
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from scripts.common.checksums import intact
from scripts.common.errors import UserError
from scripts.common.records import images_of, text_of
from scripts.common.vision import cell_size, load_image
from scripts.gguf import llama
from scripts.gguf.mmproj import image_limits
from scripts.gguf.reader import read_gguf

if TYPE_CHECKING:
    from llama_cpp import Llama
    from PIL import Image
    from transformers.models.pixtral import PixtralImageProcessor

PERTURB, ZEROS = -6, 0xFF  # of glibc's mallopt: new memory has the other bits


@dataclass(frozen=True)
class ImageSpec:
    """Image parameters of an mmproj file; `scripts.common.vision` uses it in place of a PixtralProcessor."""

    patch_size: int
    spatial_merge_size: int
    image_processor: "PixtralImageProcessor"

    @property
    def most_tokens(self) -> int:
        """The number of tokens of the largest image, without those between and after its rows."""
        return (-(-self.image_processor.size["longest_edge"] // cell_size(self))) ** 2


def read_image_spec(mmproj: Path | str, longest_edge: int | None = None) -> ImageSpec:
    """Return the image parameters of an mmproj file; see `image_limits`."""
    from transformers.models.pixtral import PixtralImageProcessor

    edge, patch, merge = image_limits(mmproj, longest_edge)
    cell = {"height": patch * merge, "width": patch * merge}
    return ImageSpec(patch, merge, PixtralImageProcessor(size={"longest_edge": edge}, patch_size=cell))


def prepared_image(image: "Image.Image", image_spec: ImageSpec) -> numpy.ndarray:
    """Return an RGB image scaled as for the model, [height, width, 3] bytes."""
    inputs = image_spec.image_processor(image, do_rescale=False, do_normalize=False, return_tensors="pt")
    pixels = inputs["pixel_values"][0]
    return pixels.permute(1, 2, 0).contiguous().numpy()


def media_marker() -> str:
    """Return libmtmd's marker for an image in a prompt."""
    from llama_cpp import mtmd_cpp

    return mtmd_cpp.mtmd_default_marker().decode()


def with_markers(messages: list[dict]) -> list[dict]:
    """Return messages with each image replaced by libmtmd's marker, as in llama.cpp's server.

    Raises UserError if a text contains the marker.
    """
    marker = media_marker()
    image = {"type": "text", "text": marker}

    def marked(content: str | list[dict]) -> str | list[dict]:
        if marker in text_of(content):
            raise UserError(f"a message contains '{marker}', which marks an image in llama.cpp")
        return content if isinstance(content, str) else [image if p["type"] == "image" else p for p in content]

    return [{**message, "content": marked(message["content"])} for message in messages]


def pieces_ids(model: "Llama", text: str) -> list[list[int]]:
    """Return the token ids of the texts between a marked text's images, as in libmtmd except for [IMG_END].

    BOS occurs once, as in `scripts.gguf.llama.token_ids`.
    """
    first, *others = text.split(media_marker())
    ids = [llama.token_ids(model, first)]
    return ids + [model.tokenize(other.encode("utf-8"), add_bos=False, special=True) for other in others]


@contextmanager
def zeroed_memory() -> Iterator[None]:
    """Let the C library give out zeros as new memory; another library than glibc is left as it is.

    For [IMG_BREAK], libmtmd multiplies new memory by 0 and adds the row's embedding (tools/mtmd/models/pixtral.cpp).
    Memory that was used before may hold NaN, which stays NaN.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        yield
        return
    libc.mallopt(PERTURB, ZEROS)
    try:
        yield
    finally:
        libc.mallopt(PERTURB, 0)


@contextmanager
def open_vision(
    model: "Llama", mmproj: Path | str, image_spec: ImageSpec | None, threads: int | None = None
) -> Iterator["Vision"]:
    """Open an mmproj file for an open model, and close it when the block ends.

    Without `image_spec`, libmtmd scales images to its own limits, as in a server. Raises UserError for a file that
    llama.cpp can't load or that belongs to another model.
    """
    read_gguf(mmproj)
    from llama_cpp import mtmd_cpp

    with llama.native_lines_kept(), zeroed_memory():
        mtmd_cpp.mtmd_log_set(llama.native_callback, ctypes.c_void_p(0))
        mtmd_cpp.mtmd_helper_log_set(llama.native_callback, ctypes.c_void_p(0))
        options = mtmd_cpp.mtmd_context_params_default()
        options.use_gpu = llama.llama_device() == "gpu"
        options.print_timings = False
        options.n_threads = threads or options.n_threads
        if image_spec is not None:
            options.image_min_tokens, options.image_max_tokens = 1, image_spec.most_tokens
        context = mtmd_cpp.mtmd_init_from_file(str(intact(mmproj)).encode(), model.model, options)
        if not context:
            llama.show_native_lines()
            raise UserError(f"llama.cpp can't load it: {llama.native_fault(0)}", mmproj)
        llama.native_lines.clear()
        try:
            yield Vision(context, image_spec)
        finally:
            mtmd_cpp.mtmd_free(context)


class Vision:
    """An open mmproj file: makes chunks of text and images, and evaluates them."""

    def __init__(self, context: int, image_spec: ImageSpec | None):
        self.context, self.image_spec = context, image_spec

    @contextmanager
    def chunks(self, model: "Llama", text: str, images: list[numpy.ndarray]) -> Iterator[list["Chunk"]]:
        """Yield the chunks of a marked text in order: its images and the texts between them.

        The images are arrays of [height, width, 3] bytes. Raises UserError if there are more or fewer markers.
        """
        from llama_cpp import mtmd_cpp

        markers = text.count(media_marker())
        if markers != len(images):
            raise UserError(f"the chat template writes {markers} of {len(images)} images")
        handle = mtmd_cpp.mtmd_input_chunks_init()
        bitmaps = []
        for image in images:  # libmtmd copies the bytes
            height, width, _ = image.shape
            data = (ctypes.c_uint8 * image.size).from_buffer_copy(image.tobytes())
            bitmaps.append(mtmd_cpp.mtmd_bitmap_init(width, height, data))
        data = text.encode("utf-8")
        bos = llama.token_text(model, model.token_bos())
        asked = mtmd_cpp.mtmd_input_text(data, len(data), not (bos and text.startswith(bos)), True)
        try:
            array = (mtmd_cpp.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
            if mtmd_cpp.mtmd_tokenize(self.context, handle, ctypes.byref(asked), array, len(bitmaps)):
                raise UserError(f"llama.cpp can't read a prompt with images: {llama.native_fault()}")
            count = mtmd_cpp.mtmd_input_chunks_size(handle)
            yield [chunk_of(mtmd_cpp.mtmd_input_chunks_get(handle, i)) for i in range(count)]
        finally:
            for bitmap in bitmaps:
                mtmd_cpp.mtmd_bitmap_free(bitmap)
            mtmd_cpp.mtmd_input_chunks_free(handle)

    def conversation(self, model: "Llama", messages: list[dict], folder: Path):
        """Return a context manager for the chunks of a conversation; `folder` contains its images."""
        images = [prepared_image(load_image(folder, name), self.image_spec) for name in images_of(messages)]
        return self.chunks(model, llama.chat_text(model, with_markers(messages)), images)

    def eval(self, model: "Llama", chunks: list["Chunk"]) -> None:
        """Evaluate chunks, appended to the model's cache; only text has logits."""
        for chunk in chunks:
            if model.n_tokens + chunk.tokens > model.n_ctx():
                raise UserError(f"a prompt with images needs more than the context of {model.n_ctx()} tokens")
            if chunk.ids is None:
                self.eval_image(model, chunk)
            else:
                model.eval(chunk.ids)

    def eval_image(self, model: "Llama", chunk: "Chunk") -> None:
        """Evaluate an image, appended to the model's cache."""
        import llama_cpp
        from llama_cpp import mtmd_cpp

        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(model.ctx), -1, model.n_tokens, -1)
        place = llama_cpp.llama_pos(0)
        fault = mtmd_cpp.mtmd_helper_eval_chunk_single(
            self.context, model.ctx, chunk.handle, model.n_tokens, 0, model.n_batch, False, ctypes.byref(place)
        )
        if fault:
            raise UserError(f"llama.cpp can't evaluate an image: {llama.native_fault()}")
        model.n_tokens = place.value
        self.last_embeddings(model, chunk)

    def embeddings(self, model: "Llama", chunk: "Chunk") -> numpy.ndarray:
        """Return an image's embeddings, [tokens, hidden size], including the breaks after its rows."""
        from llama_cpp import mtmd_cpp

        if mtmd_cpp.mtmd_encode_chunk(self.context, chunk.handle):
            raise UserError(f"llama.cpp can't encode an image: {llama.native_fault()}")
        return self.last_embeddings(model, chunk)

    def last_embeddings(self, model: "Llama", chunk: "Chunk") -> numpy.ndarray:
        """Return the embeddings of the image that was encoded last. Raises UserError for NaN; see `zeroed_memory`."""
        from llama_cpp import mtmd_cpp

        values = mtmd_cpp.mtmd_get_output_embd(self.context)
        found = numpy.ctypeslib.as_array(values, shape=(chunk.tokens, model.n_embd())).copy()
        if not numpy.isfinite(found).all():
            # On a GPU: see `zeroed_memory`.
            raise UserError("llama.cpp's embeddings of an image are not numbers", remedy="run the same command again")
        return found


@dataclass(frozen=True)
class Chunk:
    """A part of a prompt: the token ids of a text, or an image (`ids` is None) and its number of tokens."""

    handle: int
    tokens: int
    ids: list[int] | None


def chunk_of(handle: int) -> Chunk:
    """Convert a chunk of libmtmd."""
    from llama_cpp import mtmd_cpp

    tokens = mtmd_cpp.mtmd_input_chunk_get_n_tokens(handle)
    if mtmd_cpp.mtmd_input_chunk_get_type(handle) != mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_TEXT:
        return Chunk(handle, tokens, None)
    length = ctypes.c_size_t()
    ids = mtmd_cpp.mtmd_input_chunk_get_tokens_text(handle, ctypes.byref(length))
    return Chunk(handle, tokens, ids[: length.value])
