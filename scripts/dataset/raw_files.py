"""Read raw files as bytes and lines: plain, gzip or Zstandard, UTF-8 with or without a byte order mark."""

import gzip
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from scripts.common.checksums import note_input
from scripts.common.errors import UserError
from scripts.dataset.raw_rows import MAX_RECORD, BadRecordError

KINDS = ("json", "jsonl", "csv", "tsv", "parquet")
COMPRESSIONS = ("gz", "zst")
CHUNK = 2**18
ZSTANDARD_CHUNK = 2**11  # a kilobyte can expand to 32 MiB, returned as one chunk
COPIED, RATIO = 2**28, 100  # a compressed table may unpack to this many bytes, or to this multiple of its size
BOM = b"\xef\xbb\xbf"
UTF16 = (b"\xff\xfe", b"\xfe\xff")

Report = Callable[[int], None]


def kind_of(path: Path | str) -> tuple[str, str | None]:
    """Return a raw file's format and compression from its name. Raises UserError for an unknown suffix."""
    parts = Path(path).name.lower().split(".")
    compression = parts.pop() if parts[-1] in COMPRESSIONS else None
    kind = "jsonl" if parts[-1] == "ndjson" else parts[-1]
    if len(parts) < 2 or kind not in KINDS:
        raise UserError(
            "its name has no known suffix", path, remedy=f"use .{', .'.join(KINDS)}, each optionally with .gz or .zst"
        )
    return kind, compression


@contextmanager
def opened(path: Path | str) -> Iterator:
    """Open a raw file. Raises UserError if it is missing or can't be read."""
    try:
        with open(path, "rb") as file:
            note_input(path)
            yield file
    except FileNotFoundError:
        raise UserError("is missing", path, remedy="check 'files' in the configuration") from None
    except IsADirectoryError:
        raise UserError("is a folder", path, remedy=f"name the files in it, such as {path}/*.jsonl") from None
    except PermissionError:
        raise UserError("may not be read", path, remedy="give yourself read permission") from None


def read_chunks(path: Path | str, report: Report = lambda read: None) -> Iterator[bytes]:
    """Yield a file's content in chunks, decompressed; `report` is called with the number of bytes read.

    Raises UserError for a compressed file that is damaged, truncated or wrongly named.
    """
    _, compression = kind_of(path)
    with opened(path) as file:
        chunks = {None: plain_chunks, "gz": gzip_chunks, "zst": zstandard_chunks}[compression](file, path)
        read = 0
        for chunk in chunks:
            yield chunk
            position = file.tell()
            report(position - read)
            read = position


def plain_chunks(file, path: Path | str) -> Iterator[bytes]:
    """Yield the chunks of an uncompressed file."""
    first = file.read(CHUNK)
    for magic, suffix in ((b"\x1f\x8b", "gz"), (b"\x28\xb5\x2f\xfd", "zst")):
        if first.startswith(magic):
            raise UserError(f"is compressed, but its name does not end in .{suffix}", path, remedy=f"add .{suffix}")
    while first:
        yield first
        first = file.read(CHUNK)


def gzip_chunks(file, path: Path | str) -> Iterator[bytes]:
    """Yield the decompressed chunks of a gzip file of one or several members."""
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except EOFError:
        raise UserError("the gzip file ends early", path, remedy="copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"is not a valid gzip file: {error}", path, remedy="copy it again, or remove .gz if it is not compressed"
        ) from None


def zstandard_chunks(file, path: Path | str) -> Iterator[bytes]:
    """Yield the decompressed chunks of a Zstandard file of one or several frames."""
    decompressor = zstandard.ZstdDecompressor()
    frame, inside = decompressor.decompressobj(), False
    try:
        while data := file.read(ZSTANDARD_CHUNK):
            while data:
                if chunk := frame.decompress(data):
                    yield chunk
                inside, data = not frame.eof, frame.unused_data
                if frame.eof:
                    frame = decompressor.decompressobj()
    except zstandard.ZstdError as error:
        raise UserError(
            f"is not a valid Zstandard file: {error}",
            path,
            remedy="copy it again, or remove .zst if it is not compressed",
        ) from None
    if inside:
        raise UserError("the Zstandard file ends early", path, remedy="copy or download it again")


def read_lines(path: Path | str, report: Report = lambda read: None) -> Iterator[bytes]:
    """Yield a file's lines with line ends, without the byte order mark. Raises UserError for UTF-16 and huge lines."""
    rest, number = [], 0
    held = 0
    for chunk in without_bom(read_chunks(path, report), path):
        *lines, last = chunk.split(b"\n")
        for line in lines:
            rest.append(line)
            yield b"".join(rest) + b"\n"
            rest, held = [], 0
            number += 1
        rest.append(last)
        held += len(last)
        if held > MAX_RECORD:
            raise too_long(path, number + 1)
    if held:
        yield b"".join(rest)


def too_long(path: Path | str, line: int) -> UserError:
    """Return the error for a record longer than MAX_RECORD."""
    return UserError(
        f"a record is longer than {MAX_RECORD // 2**20} MiB", path, line, "check for a missing line end or bracket"
    )


def without_bom(chunks: Iterator[bytes], path: Path | str) -> Iterator[bytes]:
    """Yield the chunks without a leading UTF-8 byte order mark. Raises UserError for UTF-16."""
    first = next(chunks, b"")
    if first.startswith(UTF16):
        raise UserError("is UTF-16, not UTF-8", path, 1, "save it as UTF-8")
    yield first.removeprefix(BOM)
    yield from chunks


def encoding_fault(line: bytes) -> BadRecordError | None:
    """Return the fault of a line that is not UTF-8; None for other lines."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRecordError(
            "not UTF-8",
            f"byte 0x{line[error.start]:02x} (byte {error.start + 1} of the line) is not UTF-8",
            "save the file as UTF-8 (it may be Latin-1 or Windows-1252)",
        )
    return None


@contextmanager
def decompressed(path: Path | str, report: Report = lambda read: None) -> Iterator[Path]:
    """Yield a path to the uncompressed content, for readers that need random access: the file, or a temporary copy."""
    if kind_of(path)[1] is None:
        with opened(path):
            yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        copy = Path(folder) / "content"
        most = max(COPIED, RATIO * Path(path).stat().st_size if Path(path).is_file() else 0)
        with open(copy, "wb") as file:
            for chunk in read_chunks(path, report):
                file.write(chunk)
                if file.tell() > most:
                    raise UserError(f"unpacks to more than {RATIO} times its size", path, remedy="unpack it yourself")
        yield copy
