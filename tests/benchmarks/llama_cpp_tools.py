"""llama.cpp's own converter and quantizer, of the pinned archive, for comparisons.

python -m tests.benchmarks.llama_cpp_tools

They are made under ~/.cache/snaketune/peers once; llama-quantize is compiled in about a minute, and linked to the
libraries of the installed llama-cpp-python, as `make llama-server` does it.
"""

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from envs.llama_server import BUILD_FILE, ENDINGS, NEEDED, REQUIREMENTS, libraries
from envs.llama_server import run as build_step
from scripts.common.files import atomic_folder
from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE, fetch_converter, pinned_archive, read_pin, unpack
from tests.benchmarks.peers import PEERS

PROGRAM = "llama-quantize"


@contextlib.contextmanager
def archive() -> Iterator[Path]:
    """Yield the pinned archive, which is downloaded if SNAKETUNE_LLAMA_CPP_ARCHIVE doesn't name it."""
    given = os.environ.get(ARCHIVE_VARIABLE)
    with tempfile.TemporaryDirectory() as folder:
        yield pinned_archive(REQUIREMENTS, Path(folder), given and Path(given))


def build_quantizer(source_archive: Path, folder: Path) -> None:
    """Compile llama-quantize into a folder with the build file of llama-server, for other sources and another name."""
    text = BUILD_FILE.read_text(encoding="utf-8")
    for ours, theirs in (("tools/server", "tools/quantize"), ("llama-server", PROGRAM), ("llama_server", "quantize")):
        text = text.replace(ours, theirs)
    with tempfile.TemporaryDirectory() as temporary:
        source, built, log = (Path(temporary) / name for name in ("source", "built", "log"))
        unpack(source_archive, source, (*NEEDED, "tools/quantize/"), ENDINGS)
        (source / "CMakeLists.txt").write_text(text, encoding="utf-8")
        options = ["CMAKE_BUILD_TYPE=Release", "FINGERPRINT=peer", f"LIBRARIES={libraries()}"]
        options.append(f"LIBRARIES_IN_ENVIRONMENT={libraries()}")
        build_step(["cmake", "-S", source, "-B", built, *(f"-D{option}" for option in options)], log)
        build_step(["cmake", "--build", built, "--parallel", os.cpu_count()], log)
        (built / PROGRAM).rename(folder / PROGRAM)


def llama_cpp_tools() -> Path:
    """Return the folder with the converter and llama-quantize, which is made if it isn't there."""
    made = PEERS / f"llama.cpp-{read_pin(REQUIREMENTS).version}"
    if not (made / PROGRAM).is_file():
        with archive() as source_archive, atomic_folder(made) as folder:
            build_quantizer(source_archive, folder)
            fetch_converter(REQUIREMENTS, folder / "converter", source_archive)
    return made


def quantizer_environment() -> dict[str, str]:
    """Return the environment in which llama-quantize finds llama.cpp's libraries."""
    folder = Path(importlib.util.find_spec("llama_cpp").origin).parent / "lib"
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}


if __name__ == "__main__":
    print(llama_cpp_tools())
