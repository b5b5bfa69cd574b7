"""Images of conversations: open them from the dataset's folder, count their tokens, compute their pixel values.

A message's content is a text, or a list of parts {"type": "text", "text"} and {"type": "image", "image"}; `image` is a
path relative to the dataset's result folder. The model reads an image as a grid of cells, left to right and top to
bottom: [IMG] for each cell, [IMG_BREAK] after each row except the last, and [IMG_END] at the end (Pixtral,
arXiv:2410.07073).
"""

import functools
import re
from pathlib import Path

from scripts.common.checksums import known_sha256
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_json
from scripts.common.records import images_of, text_of

PROJECTOR, VISION_TOWER = "model.multi_modal_projector", "model.vision_tower"  # names of modules of Mistral 3
NAMED_BY_CONTENT = re.compile(r"^[0-9a-f]{64}\.")


def open_image(folder: Path, name: str):
    """Open an image of a dataset's folder and read its header; pixels are read later.

    Raises UserError for a file that is missing, outside the folder, or not an image.
    """
    from PIL import Image

    path = Path(folder) / name
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise UserError("is outside the dataset's folder", name)
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise UserError("is missing", path, remedy="make the dataset's folder again") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"can't be opened as an image: {error}", path) from None


def load_image(folder: Path, name: str):
    """Return an image of a dataset's folder as a PIL image in RGB.

    The dataset stage stores images upright, opaque and with 8 bits per channel (scripts/dataset/images.py). Raises
    UserError for a file that `open_image` refuses, that is truncated, or whose SHA-256 differs from its name.
    """
    with open_image(folder, name) as image:
        path = Path(folder) / name
        if NAMED_BY_CONTENT.match(path.name) and known_sha256(path) != path.stem:
            remedy = f"delete {path.with_name('manifest.json')} to make the images again"
            raise UserError("has changed since it was made", path, remedy=remedy)
        try:
            return image.convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"can't be read as an image: {error}", path) from None


def image_size(folder: Path, name: str) -> tuple[int, int]:
    """Return width and height in pixels of an image of a dataset's folder; reads only the file's header."""
    with open_image(folder, name) as image:
        return image.size


def load_processor(manifest: Path, longest_edge: int | None = None):
    """Load the processor of a vision model's folder: its tokenizer and its image processor.

    `longest_edge` lowers the size in pixels to which larger images are scaled; a value above the processor's own has no
    effect. Raises UserError for a model without an image processor, or with another one than Pixtral's.
    """
    from transformers import AutoProcessor, PixtralProcessor

    facts = check_manifest(manifest, hashes=False)
    folder = Path(manifest).parent
    if not (folder / "preprocessor_config.json").is_file() and not (folder / "processor_config.json").is_file():
        raise UserError("has no image processor", folder, remedy="the task 'vision' needs a vision model")
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=facts.get("trust_remote_code", False))
    if not isinstance(processor, PixtralProcessor):
        raise UserError(f"its processor is a {type(processor).__name__}; only PixtralProcessor is supported", folder)
    tokenizer, scaling = processor.tokenizer, processor.image_processor
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if longest_edge is not None and longest_edge < scaling.size["longest_edge"]:
        scaling.size = {"longest_edge": longest_edge}
    return processor


def lower_longest_edge(folder: Path, longest_edge: int | None) -> None:
    """Write a lower longest edge into the processor files of a model's folder, for programs that load it."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if longest_edge is None or not (folder / name).is_file():
            continue
        settings = read_json(folder / name)
        scaling = settings.get("image_processor", settings)
        if longest_edge < scaling.get("size", {}).get("longest_edge", 0):
            scaling["size"] = {"longest_edge": longest_edge}
            write_json(folder / name, settings, part=True)


def cell_size(processor) -> int:
    """Return the edge length in pixels of the square that one [IMG] token represents."""
    return processor.patch_size * processor.spatial_merge_size


def image_grid(processor, size: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of the model's grid for an image of (width, height) pixels.

    Raises UserError for an image that is so thin that scaling leaves no pixels.
    """
    import numpy
    from transformers.models.pixtral.image_processing_pixtral import get_resize_output_image_size

    width, height = size
    cell, edge = cell_size(processor), processor.image_processor.size["longest_edge"]
    blank = numpy.broadcast_to(numpy.uint8(0), (height, width, 3))
    high, wide = get_resize_output_image_size(blank, edge, cell, input_data_format="channels_last")
    if not high or not wide:
        raise UserError(f"an image of {width} x {height} pixels is too thin: scaled to {edge}, it has no pixels")
    return high // cell, wide // cell


def image_text(processor, grid: tuple[int, int]) -> str:
    """Return the special tokens of an image of (rows, columns) cells as text."""
    rows, columns = grid
    lines = [processor.image_token * columns] * rows
    return processor.image_break_token.join(lines) + processor.image_end_token


def pixel_inputs(processor, images: list) -> dict:
    """Return pixel_values [images, 3, height, width] and image_sizes [images, 2] of PIL images; {} without images.

    Smaller images are padded to the largest; `image_sizes` holds height and width without padding.
    """
    if not images:
        return {}
    cell = cell_size(processor)
    inputs = processor.image_processor(images, patch_size={"height": cell, "width": cell}, return_tensors="pt")
    return {key: inputs[key] for key in ("pixel_values", "image_sizes")}


def encode_images_one_by_one(model):
    """Make a Mistral 3 model encode the images of a batch one by one, and return the model.

    transformers concatenates all images of a batch and separates them by an attention mask of (all patches)^2. In 16
    bits, this mask needs 0.6 GB for two pages of 110 x 78 patches, and 9 GB for eight pages. The result is the same.
    """
    import torch

    look = model.model.get_image_features

    def get_image_features(pixel_values, image_sizes, **options):
        seen = [
            look(pixel_values=page[None, :, :height, :width], image_sizes=size[None], **options)
            for page, size in zip(pixel_values, image_sizes, strict=True)
            for height, width in [size.tolist()]
        ]
        seen[0].pooler_output = [torch.cat(list(one.pooler_output)) for one in seen]
        return seen[0]

    model.model.get_image_features = get_image_features
    return model


class VisionTokenizer:
    """A tokenizer whose rendered conversations contain the tokens of their images.

    `folder` is the dataset's result folder. All other methods are those of the model's tokenizer, so code that renders
    and tokenizes conversations works with either.
    """

    def __init__(self, processor, folder: Path):
        self.processor, self.tokenizer, self.folder = processor, processor.tokenizer, Path(folder)
        self.grid = functools.lru_cache(maxsize=100_000)(self.grid)

    def __getattr__(self, name: str):
        return getattr(self.tokenizer, name)

    def __call__(self, *arguments, **options):
        return self.tokenizer(*arguments, **options)

    def grid(self, name: str) -> tuple[int, int]:
        """Return rows and columns of an image of the folder."""
        return image_grid(self.processor, image_size(self.folder, name))

    def apply_chat_template(self, conversations: list[list[dict]], **options) -> list[str]:
        """Return the rendered texts with each image as its tokens; `options` are those of transformers.

        Raises UserError if a message's text contains an image token, and if the template omits an image.
        """
        return [self.rendered(messages, **options) for messages in conversations]

    def rendered(self, messages: list[dict], **options) -> str:
        """Return one rendered conversation."""
        token = self.processor.image_token
        for message in messages:
            for special in (token, self.processor.image_break_token, self.processor.image_end_token):
                if special in text_of(message["content"]):
                    raise UserError(f"a text contains '{special}', which is reserved for images")
        names = images_of(messages)
        pieces = self.tokenizer.apply_chat_template(messages, **{**options, "tokenize": False}).split(token)
        if len(pieces) != len(names) + 1:
            raise UserError(f"the chat template renders {len(pieces) - 1} images of {len(names)}")
        images = [image_text(self.processor, self.grid(name)) for name in names]
        return pieces[0] + "".join(image + piece for image, piece in zip(images, pieces[1:], strict=True))

    def pixels(self, names: list[str]) -> dict:
        """Return the result of `pixel_inputs` for images of the folder."""
        return pixel_inputs(self.processor, [load_image(self.folder, name) for name in names])

    @functools.cached_property
    def image_ids(self) -> frozenset[int]:
        """The ids of the image tokens."""
        return frozenset(self.processor.image_token_ids)

    def shortened(self, text: str) -> str:
        """Return a text with each image's tokens replaced by its rows and columns, such as [image 9x12]."""
        tokens = self.processor.image_token, self.processor.image_break_token, self.processor.image_end_token
        cell, line, end = map(re.escape, tokens)

        def words(match: re.Match) -> str:
            rows = match[0].count(tokens[1]) + 1
            return f"[image {rows}x{match[0].count(tokens[0]) // rows}]"

        return re.sub(f"(?:{cell}|{line})+{end}", words, text)


def vision_tokenizer(manifest: Path, folder: Path, settings: dict) -> VisionTokenizer:
    """Return the tokenizer of a vision run for the images of a folder."""
    return VisionTokenizer(load_processor(manifest, settings["vision"]["longest_edge"]), folder)
