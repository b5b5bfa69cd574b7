"""Run llama.cpp's converter in this process, faster than on its own, and with metadata of ours.

The converter's imports, torch and transformers above all, take longer than its work on a small model; here they are
those of the step. Three things are changed while it runs, written for the pinned version; the files are byte for byte
those of the converter alone (tests/integration/test_gguf_conversion.py), but for the metadata:

- The header is replaced before the tensors are written. Otherwise the whole file would be written twice.
- Values are rounded to bf16 by a few passes over 32 bits instead of many over 64.
- Large blocks of memory are kept instead of being given back after each tensor, which would cost more than the rest.
"""

import ctypes
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy

from scripts.common.errors import UserError, refuse_full_disk
from scripts.common.float32 import narrow
from scripts.gguf.reader import GgufFile, parse_head
from scripts.gguf.rewrite import Value, changed_head

CONVERTER, LIBRARY, MODELS = "convert_hf_to_gguf", "gguf", "conversion"
LOGGER = "hf-to-gguf"
MMAP_THRESHOLD, KEPT = -3, 1 << 30  # of glibc's mallopt: blocks of fewer bytes are reused
Changes = Callable[[GgufFile], dict[str, Value | None]]
log = logging.getLogger(__name__)


class Faults(logging.Handler):
    """Keeps the converter's error messages."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def modules_of(tools: Path) -> Iterator[None]:
    """Let imports find the converter's modules, whose `gguf` is of its own version; leave no trace of them."""
    names = (CONVERTER, LIBRARY, MODELS)
    path, argv, silent = sys.path.copy(), sys.argv, sys.dont_write_bytecode

    def take() -> dict:
        """Remove the modules of these names from those that are imported, and return them."""
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}

    before = take()
    sys.path[:0] = [str(tools.resolve()), str(tools.resolve() / "gguf-py")]
    sys.dont_write_bytecode = True  # keeps the folder unchanged
    try:
        yield
    finally:
        take()
        sys.modules.update(before)
        sys.path[:], sys.argv, sys.dont_write_bytecode = path, argv, silent


def quantize_blocks(_kind, blocks: numpy.ndarray) -> numpy.ndarray:
    """Return float32 values [values, 1] in bf16 as bytes [values, 2]."""
    stored = numpy.empty(blocks.shape, numpy.uint16)
    narrow(blocks, stored, spare=numpy.empty_like(blocks))
    return stored.view(numpy.uint8)


def with_changes(write: Callable, changes: Changes) -> Callable:
    """Return the method of the converter's writer that ends the header, and then changes the metadata."""

    def write_and_change(writer) -> None:
        write(writer)
        [file] = writer.fout
        head = Path(file.name).read_bytes()
        header = parse_head(head, Path(file.name))
        file.seek(0)
        file.truncate()
        file.write(changed_head(head, header, changes(header)))

    return write_and_change


def run_converter(tools: Path, folder: Path, output: Path, changes: Changes, *more: str) -> None:
    """Run llama.cpp's converter on a model folder, with further options, and write a bf16 file.

    `changes` returns the changes of the metadata for the header that the converter made. Raises UserError with the line
    that names the converter's error; everything that it says goes to the log.
    """
    faults, converters_log = Faults(), logging.getLogger(LOGGER)
    with modules_of(tools):
        try:
            converter = importlib.import_module(CONVERTER)
            library = sys.modules[LIBRARY]
            writer, blocks = library.GGUFWriter, library.quants.BF16
            # The modules are this call's own: `modules_of` drops them.
            writer.write_ti_data_to_file = with_changes(writer.write_ti_data_to_file, changes)
            blocks.quantize_blocks = classmethod(quantize_blocks)
            keep_memory()
            converters_log.addHandler(faults)
            sys.argv = [CONVERTER, str(folder), "--outfile", str(output), "--outtype", "bf16", *more]
            converter.main()
            if not output.is_file():
                refuse_full_disk(output)
                raise UserError("llama.cpp's converter failed: it wrote no file", folder.name)
        except UserError:  # of `changes`, or above
            raise
        except (Exception, SystemExit) as error:
            log.exception("the converter failed")
            refuse_full_disk(output)
            own = f"{type(error).__name__}: {error}".splitlines()[0]
            fault = faults.messages[-1] if isinstance(error, SystemExit) and faults.messages else own
            raise UserError(f"llama.cpp's converter failed: {fault}", folder.name) from None
        finally:
            converters_log.removeHandler(faults)


def keep_memory() -> None:
    """Let the C library reuse blocks of memory below a gigabyte; another library than glibc is left as it is."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(MMAP_THRESHOLD, KEPT)
