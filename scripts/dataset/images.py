"""Read the images that records name from the dataset's folder, check them, and store them under their SHA-256.

Files are not trusted: a path may not leave the folder, the header is checked before decoding, and each image is decoded
completely once. Stored images are PNG or JPEG, upright, opaque, with 8 bits per channel, so that every reader converts
them to the same RGB; an image that is so already is stored byte for byte.
"""

import copy
import hashlib
import io
import os
import re
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.checksums import note_input
from scripts.common.errors import UserError
from scripts.common.files import MANIFEST, atomic_path, write_json
from scripts.common.records import images_of
from scripts.dataset.raw_rows import BadRecordError

if TYPE_CHECKING:
    from PIL import Image

FOLDER = "images"  # in the dataset's result folder; records name `images/<sha256>.<png or jpg>`
MAX_PIXELS = 40_000_000  # A4 at 600 dpi has 35 million; Pillow warns above 89 million
MAX_RATIO = 100  # of the longer side to the shorter; beyond it, scaling would shrink the shorter side to nothing
MAX_BYTES = 64 * 2**20  # of one file
MAX_IMAGES = 64  # in one record
KNOWN = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
# Formats that llama.cpp's decoder reads as Pillow does. MPO is a JPEG from a camera with further views appended.
KEPT = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg"}
PLAIN = ("1", "L", "P", "RGB")  # modes that convert to RGB without a change of colour
REMOTE = re.compile(r"(data:|[a-z][a-z0-9+.-]*:(?=//))", re.IGNORECASE)
OURS = re.compile(r"^\.?[0-9a-f]{64}\.(png|jpg)(\.\d+\.partial)?$")


@dataclass(frozen=True, slots=True)
class Kept:
    """One stored image: file name, bytes, and size in pixels."""

    name: str
    bytes: int
    width: int
    height: int


def without_images(messages: list[dict]) -> list[dict]:
    """Return the messages of a dataset without an image folder. Raises BadRecordError if they contain an image."""
    if images_of(messages):
        detail = f"names the image {shown(images_of(messages)[0])}, but the dataset has no image folder"
        raise BadRecordError("no image folder", detail, "name the folder under 'images'")
    return messages


class ImageStore:
    """The images of one dataset: raw images are read from `folder` and stored in `output`."""

    def __init__(self, folder: Path | str, output: Path | str):
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"images: there is no folder '{folder}'", remedy="name the folder of the records' images")
        self.folder, self.output = folder.resolve(), Path(output)
        self.named: dict[str, Kept] = {}
        self.read: dict[str, Kept] = {}  # by the SHA-256 of the file that was read
        self.used: set[str] = set()  # images of kept records, added by the caller

    def stored(self, messages: list[dict]) -> list[dict]:
        """Store the images of messages; return the messages with the names of the stored files."""
        names = images_of(messages)
        if len(names) > MAX_IMAGES:
            raise BadRecordError("too many images", f"names {len(names)} images", f"a record may have {MAX_IMAGES}")
        messages = copy.deepcopy(messages)
        for message in messages:
            for part in message["content"] if isinstance(message["content"], list) else ():
                if part["type"] == "image":
                    part["image"] = f"{FOLDER}/{self.kept(part['image']).name}"
        return messages

    def kept(self, name: str) -> Kept:
        """Return the image with this name, read, checked and stored at first use. Raises BadRecordError if invalid."""
        if name not in self.named:
            data = read_file(self.folder, name)
            digest = hashlib.sha256(data).hexdigest()
            note_input(self.folder / name, digest)
            if digest not in self.read:
                data, suffix, (width, height) = canonical(data, name)
                file = f"{hashlib.sha256(data).hexdigest()}.{suffix}"
                with atomic_path(self.output / file, part=True) as beside:
                    beside.write_bytes(data)
                self.read[digest] = Kept(file, len(data), width, height)
            self.named[name] = self.read[digest]
        return self.named[name]

    def facts(self) -> dict[str, dict]:
        """Return for each image of a kept record: bytes, SHA-256, pixels and the names it had, sorted by file."""
        facts = {}
        for origin, kept in sorted(self.named.items()):
            if f"{FOLDER}/{kept.name}" in self.used:
                size = {"width": kept.width, "height": kept.height}
                entry = {"bytes": kept.bytes, "sha256": kept.name.partition(".")[0], **size, "origins": []}
                facts.setdefault(kept.name, entry)["origins"].append(origin)
        return dict(sorted(facts.items()))


def write_images_manifest(output: Path | str, facts: dict[str, dict]) -> None:
    """Write the images' manifest, the last file of an ingestion, and remove images that no kept record names."""
    output = Path(output)
    (output / MANIFEST).unlink(missing_ok=True)
    for path in output.glob("*") if output.is_dir() else ():
        if OURS.match(path.name) and path.name not in facts:
            path.unlink()
    write_json(output / MANIFEST, {"files": facts})


def read_file(folder: Path, name: str) -> bytes:
    """Return the bytes of a file below a (resolved) folder. Raises BadRecordError for anything else."""
    if remote := REMOTE.match(name):
        detail = f"names the image {shown(name)} by a {remote[1].lower()} URL"
        raise BadRecordError("remote image", detail, "save it in the folder 'images', and name the file")
    if not name or "\0" in name:
        raise BadRecordError("unnamed image", f"names the image {shown(name)}", "name a file")
    inside = "name a file below the dataset's folder 'images'"
    try:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BadRecordError("image outside", f"the image {shown(name)} leaves the dataset's folder", inside)
        path = (folder / name).resolve(strict=True)
        if not path.is_relative_to(folder):
            raise BadRecordError("image outside", f"the image {shown(name)} is a link out of the folder", inside)
        # A link created after the path was resolved is not followed; opening a pipe does not block.
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadRecordError("not an image", f"the image {shown(name)} is not a regular file", "name a file")
            if status.st_size > MAX_BYTES:
                detail = f"the image {shown(name)} has {status.st_size / 2**20:.0f} MiB"
                raise BadRecordError("image too large", detail, f"a file may have {MAX_BYTES // 2**20} MiB")
            return file.read(MAX_BYTES)
    except IsADirectoryError:
        raise BadRecordError("not an image", f"the image {shown(name)} is a folder", "name a file") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a cycle of links
        reason = getattr(error, "strerror", None) or "its links form a cycle"
        raise BadRecordError("missing image", f"no image {shown(name)} in {folder}: {reason}", inside) from None


def canonical(data: bytes, name: str) -> tuple[bytes, str, tuple[int, int]]:
    """Return the bytes of an image as they are stored, the file suffix, and the size in pixels."""
    with warnings.catch_warnings():
        from PIL import ExifTags, Image, ImageOps

        warnings.simplefilter("ignore")  # invalid tags are frequent and harmless
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = opened(data, name)
        try:
            # Further views in a camera's JPEG don't count as frames: every viewer shows the first.
            several = image.format != "MPO" and getattr(image, "is_animated", False)
            if not several:
                image.load()
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
                upright = ImageOps.exif_transpose(image) if turned else image
        except Exception as error:  # decoders raise many kinds of errors on damaged data
            detail = f"the image {shown(name)} can't be decoded: {error}"
            raise BadRecordError("damaged image", detail, "save it again") from None
    if several:
        detail = f"the image {shown(name)} has several frames or pages"
        raise BadRecordError("several frames", detail, "save each as a separate file")
    plain = flattened(upright, name)
    if plain is image and image.format in KEPT:
        return data, KEPT[image.format], image.size
    written = io.BytesIO()
    plain.info = {}  # Pillow would write the original's colour profile and other metadata
    plain.save(written, "PNG")
    return written.getvalue(), "png", plain.size


def opened(data: bytes, name: str) -> "Image.Image":
    """Open an image, reading its header only. Raises BadRecordError if it is not an image, too large or too thin."""
    from PIL import Image

    most = f"scale it down: {MAX_PIXELS // 10**6} million pixels are the limit"
    try:
        image = Image.open(io.BytesIO(data), formats=KNOWN)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        detail = f"the image {shown(name)} unpacks to more than {Image.MAX_IMAGE_PIXELS // 10**6} million pixels"
        raise BadRecordError("too many pixels", detail, most) from None
    except Exception:
        what = next((what for start, what in LOOKALIKES if data.startswith(start)), "can't be read as an image")
        detail = f"the image {shown(name)} {what}"
        raise BadRecordError("not an image", detail, f"formats are {', '.join(KNOWN)}") from None
    width, height = image.size
    detail = f"the image {shown(name)} has {width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise BadRecordError("too many pixels", detail, most)
    if max(width, height) > MAX_RATIO * min(width, height):
        raise BadRecordError("too thin", detail, f"the longer side may be at most {MAX_RATIO} times the shorter")
    return image


LOOKALIKES = (
    (b"version https://git-lfs", "is a pointer of Git LFS: run `git lfs pull`"),
    (b"%PDF", "is a PDF: render its pages"),
    (b"<", "is XML or HTML"),
)


def flattened(image: "Image.Image", name: str) -> "Image.Image":
    """Return an image that converts to RGB without changing its look, with transparent parts white."""
    from PIL import Image

    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=image.getchannel("A"))
        return paper
    if image.mode in PLAIN:
        return image
    if image.mode.startswith("I;16"):
        import numpy as np

        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("CMYK", "YCbCr"):
        return image.convert("RGB")
    detail = f"the image {shown(name)} has pixels of the mode '{image.mode}'"
    raise BadRecordError("unknown colours", detail, "save it as RGB")


def shown(name: str) -> str:
    """Return a file name for a message, quoted and shortened."""
    return repr(name if len(name) <= 80 else f"{name[:60]}…")
