"""llama.cpp's own converter and quantizer, of the pinned archive, for comparisons.

python -m tests.benchmarks.llama_cpp_tools

They are made under ~/.cache/snaketune/peers once. llama-quantize is compiled as llama.cpp's own build file says, by
default for this CPU, which takes some minutes; our build of its libraries is compiled otherwise (envs/llama.cmake).
"""

import contextlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from envs.llama_server import REQUIREMENTS
from envs.llama_server import run as build_step
from scripts.common.files import atomic_folder
from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE, fetch_converter, pinned_archive, read_pin
from tests.benchmarks.peers import PEERS

PROGRAM = "llama-quantize"


@contextlib.contextmanager
def archive() -> Iterator[Path]:
    """Yield the pinned archive, which is downloaded if SNAKETUNE_LLAMA_CPP_ARCHIVE doesn't name it."""
    given = os.environ.get(ARCHIVE_VARIABLE)
    with tempfile.TemporaryDirectory() as folder:
        yield pinned_archive(REQUIREMENTS, Path(folder), given and Path(given))


def build_quantizer(source_archive: Path, folder: Path) -> None:
    """Compile llama-quantize into a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        source, built, log = (Path(temporary) / name for name in ("source", "built", "log"))
        with tarfile.open(source_archive) as content:
            content.extractall(source, filter="data")
        [root] = source.glob("*/vendor/llama.cpp")
        options = [f"LLAMA_BUILD_{part}=OFF" for part in ("TESTS", "EXAMPLES", "SERVER")]
        options += ["CMAKE_BUILD_TYPE=Release", "BUILD_SHARED_LIBS=OFF"]
        build_step(["cmake", "-S", root, "-B", built, *(f"-D{option}" for option in options)], log)
        build_step(["cmake", "--build", built, "--target", PROGRAM, "--parallel", os.cpu_count()], log)
        (built / "bin" / PROGRAM).rename(folder / PROGRAM)


def llama_cpp_tools() -> Path:
    """Return the folder with the converter and llama-quantize, which is made if it isn't there."""
    made = PEERS / f"llama.cpp-own-build-{read_pin(REQUIREMENTS).version}"
    if not (made / PROGRAM).is_file():
        with archive() as source_archive, atomic_folder(made) as folder:
            build_quantizer(source_archive, folder)
            fetch_converter(REQUIREMENTS, folder / "converter", source_archive)
    return made


if __name__ == "__main__":
    print(llama_cpp_tools())
