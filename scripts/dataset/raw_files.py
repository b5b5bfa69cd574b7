"""Read raw files as bytes and lines: plain, gzip or Zstandard, UTF-8 with or without a byte order mark."""

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from scripts.common.checksums import note_input
from scripts.common.errors import UserError
from scripts.dataset.raw_rows import MAX_RECORD, BadRecordError

COMPRESSIONS = {"gz": "gzip", "zst": "zstd"}  # suffix, and pyarrow's name
MAGIC = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd"}  # the first bytes of a compressed file
CHUNK, BLOCK = 2**18, 2**20
COPIED, RATIO = 2**28, 100  # a compressed table may unpack to this many bytes, or to this multiple of its size
BOM = b"\xef\xbb\xbf"

Report = Callable[[int], None]


def kind_of(path: Path | str) -> tuple[str, str | None]:
    """Return a raw file's format and the suffix of its compression, from its name; the configuration checked both."""
    *_, kind, last = ["", *Path(path).name.lower().split(".")]
    compression = last if last in COMPRESSIONS else None
    kind = kind if compression else last
    return "jsonl" if kind == "ndjson" else kind, compression


class RawFile(io.FileIO):
    """A raw file that reports the number of bytes read."""

    def __init__(self, path: Path | str, report: Report):
        try:
            super().__init__(path)
        except OSError as error:
            raise UserError(f"can't be read: {error.strerror}", path, remedy="check 'files'") from None
        self.report = report
        note_input(path)

    def readinto(self, buffer) -> int:
        count = super().readinto(buffer)
        self.report(count)
        return count


@contextmanager
def opened(path: Path | str, report: Report = lambda read: None) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed; `report` is called with the number of bytes read.

    Raises UserError for a file that can't be read, and for a compressed one that is damaged or wrongly named.
    """
    _, compression = kind_of(path)
    with io.BufferedReader(RawFile(path, report), CHUNK) as file:
        if compression is None:
            for suffix, magic in MAGIC.items():
                if file.peek(len(magic)).startswith(magic):
                    what = f"is compressed, but its name does not end in .{suffix}"
                    raise UserError(what, path, remedy=f"add .{suffix} to its name")
            yield file
            return
        import pyarrow

        try:
            yield io.BufferedReader(pyarrow.CompressedInputStream(file, COMPRESSIONS[compression]), CHUNK)
        except OSError as error:
            if error.errno is not None:  # not from the decompression
                raise
            remedy = f"copy it again, or remove .{compression} if it is not compressed"
            raise UserError(f"can't be unpacked: {error}", path, remedy=remedy) from None


def read_blocks(path: Path | str, report: Report = lambda read: None) -> Iterator[tuple[int, bytes]]:
    """Yield a file's lines, without the byte order mark, in blocks of about a MiB, each with its first line's number.

    Raises UserError for huge lines.
    """
    with opened(path, report) as file:
        number = 1
        while block := file.read(BLOCK):
            if not block.endswith(b"\n"):
                block += file.readline(MAX_RECORD + 1)
            last = block.count(b"\n", 0, -1)
            if len(block) - block.rfind(b"\n", 0, -1) - 1 > MAX_RECORD:
                raise too_long(path, number + last)
            yield number, block.removeprefix(BOM) if number == 1 else block
            number += last + 1


def read_lines(path: Path | str, report: Report = lambda read: None) -> Iterator[bytes]:
    """Yield a file's lines with line ends, without the byte order mark. Raises UserError for huge lines."""
    for _, block in read_blocks(path, report):
        yield from io.BytesIO(block)


def too_long(path: Path | str, line: int) -> UserError:
    """Return the error for a record longer than MAX_RECORD."""
    return UserError(
        f"a record is longer than {MAX_RECORD // 2**20} MiB", path, line, "check for a missing line end or bracket"
    )


def encoding_fault(data: bytes) -> BadRecordError | None:
    """Return the fault of bytes that are not UTF-8; None for others."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = error.start - data.rfind(b"\n", 0, error.start)
        return BadRecordError(
            "not UTF-8",
            f"byte 0x{data[error.start]:02x} (byte {place} of the line) is not UTF-8",
            "save the file as UTF-8 (it may be UTF-16, Latin-1 or Windows-1252)",
        )
    return None


@contextmanager
def decompressed(path: Path | str, report: Report = lambda read: None) -> Iterator[Path]:
    """Yield a path to the uncompressed content, for readers that need random access: the file, or a temporary copy."""
    with opened(path, report) as file:
        if kind_of(path)[1] is None:
            yield Path(path)
            return
        with tempfile.NamedTemporaryFile(prefix="snaketune-") as copy:
            while chunk := file.read(CHUNK):
                copy.write(chunk)
                if copy.tell() > max(COPIED, RATIO * Path(path).stat().st_size):
                    raise UserError(f"unpacks to more than {RATIO} times its size", path, remedy="unpack it yourself")
            copy.flush()
            yield Path(copy.name)
