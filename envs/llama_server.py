"""Build llama-server, llama.cpp's HTTP server, into this environment: `make llama-server`.

Its sources are in the archive that the converter comes from; SNAKETUNE_LLAMA_CPP_ARCHIVE names it where there is no
network. Only the server is compiled (about a minute on two cores). It is linked to the libraries of the installed
llama-cpp-python: if they were built for CUDA, the server uses CUDA. CMAKE_ARGS reaches its build as well. The program
says of which archive and build file it was made, so a second call does nothing.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from envs.lock import FOLDER
from scripts.common.errors import UserError
from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE, pinned_archive, read_pin, unpack

REQUIREMENTS, BUILD_FILE = FOLDER / "converter.txt", FOLDER / "llama_server.cmake"
NEEDED = (
    "common/", "ggml/include/", "include/", "src/llama-ext.h", "tools/mtmd/", "tools/server/", "tools/ui/ui.cpp.in",
    "tools/ui/ui.h.in", "vendor/",
)  # fmt: skip
ENDINGS = (".c", ".cpp", ".h", ".hpp", ".in")
PROGRAM = Path(sys.prefix) / "bin" / "llama-server"


def fingerprint() -> str:
    """Return what identifies the program: the archive and the build file."""
    return hashlib.sha256(read_pin(REQUIREMENTS).sha256.encode() + BUILD_FILE.read_bytes()).hexdigest()[:16]


def is_current(program: Path = PROGRAM) -> bool:
    """Return whether the program runs and is made of the pinned archive."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError:  # it is not there, not executable, or of another kind of machine
        return False
    return fingerprint() in done.stdout + done.stderr


def libraries() -> Path:
    """Return the folder of llama.cpp's libraries; raises UserError if they are not of the pinned version."""
    pin = read_pin(REQUIREMENTS)
    try:
        found = importlib.metadata.version(pin.package)
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found != pin.version:
        have = f"has {pin.package} {found or 'not at all'}, not {pin.version}"
        raise UserError(have, sys.prefix, remedy="start this by `make llama-server`, which installs the environment")
    return Path(importlib.util.find_spec("llama_cpp").origin).parent / "lib"


def run(command: list[object], log: Path) -> None:
    """Run a command of the build; raises UserError with the end of its output if it fails."""
    if not shutil.which(command[0]):
        raise UserError(f"{command[0]} is not installed here", remedy="install it")
    with log.open("ab") as file:
        done = subprocess.run([*map(str, command)], stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        end = log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:]
        raise UserError("\n".join([*end, "the build of llama-server failed, see above"]))


def build(program: Path = PROGRAM) -> None:
    """Build the program; it gets its name when it is whole."""
    archive, lib = os.environ.get(ARCHIVE_VARIABLE), libraries()
    unfinished = program.with_name(f".{program.name}.unfinished")
    with tempfile.TemporaryDirectory() as folder:
        source, built, log = (Path(folder) / name for name in ("source", "built", "log"))
        unpack(pinned_archive(REQUIREMENTS, Path(folder), archive and Path(archive)), source, NEEDED, ENDINGS)
        shutil.copyfile(BUILD_FILE, source / "CMakeLists.txt")
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "FINGERPRINT": fingerprint(),
            "LIBRARIES": lib,
            "LIBRARIES_IN_ENVIRONMENT": lib.relative_to(sys.prefix),
        }
        words = [f"-D{name}={value}" for name, value in options.items()]
        run(["cmake", "-S", source, "-B", built, *words, *shlex.split(os.environ.get("CMAKE_ARGS", ""))], log)
        run(["cmake", "--build", built, "--parallel", os.cpu_count()], log)
        shutil.copy2(built / "llama-server", unfinished)
    unfinished.replace(program)


def main() -> int:
    """Build the program unless it is there; another process that wants it waits."""
    try:
        with PROGRAM.with_name(f".{PROGRAM.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_current():
                print("llama-server is built from source, which takes about a minute", flush=True)
                build()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(PROGRAM)
    return 0


if __name__ == "__main__":
    sys.exit(main())
