"""Small pictures for tests, and files that only look like pictures."""

import io
import struct
import zlib

from PIL import Image


def picture(mode: str = "RGB", size: tuple[int, int] = (12, 8), seed: int = 0) -> Image.Image:
    """Return a picture of many colours; another seed gives another one."""
    width, height = size
    pixels = bytes((17 * seed + 5 * x + 11 * y + 40 * band) % 256 for y in range(height) for x in range(width)
                   for band in range(3))  # fmt: skip
    image = Image.frombytes("RGB", size, pixels)
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.frombytes("L", size, bytes(20 * x % 256 for _ in range(height) for x in range(width))))
    if mode == "I;16":
        return Image.frombytes(mode, size, bytes(n * 37 % 256 for n in range(2 * width * height)))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    """Return a picture as the bytes of a file."""
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a PNG file of 1 bit a pixel that claims a size, and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def looking(*names: str, question: str = "Titre ?", answer: str | None = "Le sel", **fields) -> dict:
    """Return a raw record of the format `messages` that asks about images."""
    parts = [{"type": "image", "image": name} for name in names]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]
    messages += [{"role": "assistant", "content": answer}] if answer is not None else []
    return {"messages": messages, **fields}
