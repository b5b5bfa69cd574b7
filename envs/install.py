"""Install the project's one virtual environment from the locks: `python -m envs.install`, run by the `.venv` target.

Run it with the Python of a new virtual environment. In order:

1. pip and the tools that build source packages, from build.lock;
2. llama.cpp is built from source by a second process (envs/llama.cmake says which parts), while this one continues;
3. all other packages of all the locks in one run of pip, each file checked against its hashes. torch and torchvision
   come in the builds that pip finds first: put an index with CPU wheels of both in PIP_EXTRA_INDEX_URL to get CPU
   builds (`2.13.0+cpu`); without one it is the CUDA builds. Builds that don't fit each other (torch for the CPU,
   torchvision for CUDA) are passed over for those of the lock. Beside CPU builds the CUDA libraries are left out;
4. llama.cpp once it is built, and a path file, so that `from scripts...` works without PYTHONPATH.

CMAKE_ARGS reaches llama.cpp's build. `--check` installs nothing and exits with 1 unless this environment is the one
that the locks describe. `--add trackers` adds an optional environment to an installed one.
"""

import argparse
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envs.lock import CUDA_PREFIXES, FOLDER, OPTIONAL, Pin, environments, read_lock, requirement_line
from envs.lock import TORCH as PAIR

STAMP = "installed"
LLAMA, LLAMA_PARTS, LOG = "llama-cpp-python", FOLDER / "llama.cmake", "llama.cpp.log"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


def merged_pins(folder: Path = FOLDER) -> dict[str, Pin]:
    """Return the pins of all environments but the optional; two versions of one package are a ValueError."""
    pins: dict[str, Pin] = {}
    for environment in (name for name in environments(folder) if name not in OPTIONAL):
        for name, pin in read_lock(environment, folder).items():
            if pins.setdefault(name, pin).version != pin.version:
                raise ValueError(f"{environment}.lock has {name} {pin.version}, not {pins[name].version}: make lock")
    return pins


def without_pair(pins: dict[str, Pin], cpu_build: bool) -> dict[str, Pin]:
    """Return what is installed beside torch and torchvision: for a CPU build of them, no CUDA libraries."""
    left_out = CUDA_PREFIXES if cpu_build else ()
    return {name: pin for name, pin in pins.items() if name not in PAIR and not name.startswith(left_out)}


def fingerprint(folder: Path = FOLDER) -> str:
    """Return what identifies the environment: the Python version and the contents of locks and installer."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted([*folder.glob("*.lock"), LLAMA_PARTS, Path(__file__)]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def say(line: str) -> None:
    """Print a line at once, before what it announces."""
    print(line, flush=True)


def pip(*arguments: str) -> None:
    """Run pip in this environment to its end; a failure ends this program."""
    if subprocess.run([*PIP, *arguments], check=False).returncode:
        raise SystemExit("pip failed, see above")


def install(lines: list[str]) -> None:
    """Install lines of a requirements file and nothing else, each file checked against its hashes.

    Python compiles a module when it is first imported; most modules never are.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ("--no-deps", "--no-compile", "--no-build-isolation", "--require-hashes")
        pip("install", *options, "-r", requirements_file(Path(folder), lines))


def requirements_file(folder: Path, lines: list[str]) -> str:
    """Write a requirements file into a folder; return its path."""
    path = folder / "requirements.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def lines_of(pins: dict[str, Pin]) -> list[str]:
    """Return pins as lines of a requirements file."""
    return [requirement_line(name, pin) for name, pin in pins.items()]


def choose_pair(pins: dict[str, Pin]) -> dict[str, Pin]:
    """Return torch and torchvision in builds that fit each other, with the hashes of their files.

    The builds that pip finds first are taken if they are of one kind, otherwise those of the lock. A build with a local
    version (`+cpu`) is in no lock: its hash is the one that pip reports.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        asked = [f"{name}=={pins[name].version}" for name in PAIR]
        options = ("-qq", "--dry-run", "--ignore-installed", "--no-deps", "--report", str(report))
        pip("install", *options, *asked)
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    found = {}
    for item in items:
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        found[item["metadata"]["name"]] = Pin(item["metadata"]["version"], (f"sha256:{digest}",))
    kinds = {pin.version.partition("+")[2] for pin in found.values()}
    if len(kinds) > 1:
        builds = " and ".join(f"{name} {pin.version}" for name, pin in found.items())
        say(f"    {builds} don't fit each other: the locked builds of both are taken")
    return found if len(kinds) == 1 and kinds != {""} else {name: pins[name] for name in PAIR}


@contextmanager
def llama_build(pin: Pin, folder: Path) -> Iterator[subprocess.Popen]:
    """Start a pip that builds the wheel of llama.cpp into a folder; the process ends with the block.

    pip's cache has the wheel from then on, so that the next environment need not build it.
    """
    options = ("-v", "--no-deps", "--no-build-isolation", "--require-hashes", "--wheel-dir", str(folder))
    command = [*PIP, "wheel", *options, "-r", requirements_file(folder, lines_of({LLAMA: pin}))]
    parts = f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={shlex.quote(str(LLAMA_PARTS))}"
    variables = {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count()), **os.environ}
    variables["CMAKE_ARGS"] = f"{parts} {os.environ.get('CMAKE_ARGS', '')}"
    with open(folder / LOG, "wb") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def wait_for_build(process: subprocess.Popen, log: Path) -> None:
    """Wait for a build, and print the last line of its log every half minute; print the log's end if it fails."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            status = process.wait(timeout=30)
            break
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        say("    " + next((line.strip()[:90] for line in reversed(lines) if line.strip()), ""))
    if status:
        end = log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]
        raise SystemExit("\n".join([*end, "the build of llama.cpp failed, see above"]))


def write_path_file(root: Path) -> None:
    """Make `scripts` importable in this environment from wherever Python is started, and Snakemake find our plugin."""
    site_packages = Path(sysconfig.get_paths()["purelib"])
    (site_packages / "snaketune.pth").write_text(f"{root}\n{root / 'scripts' / 'plugins'}\n", encoding="utf-8")


def main(argv=None) -> int:
    """Install everything, or with `--check` say whether that is needed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 unless this environment is up to date")
    parser.add_argument("--add", choices=OPTIONAL, help="add this optional environment; nothing else is installed")
    stamp, arguments = Path(sys.prefix) / STAMP, parser.parse_args(argv)
    if arguments.add:
        there = merged_pins()
        install(lines_of({name: pin for name, pin in read_lock(arguments.add).items() if name not in there}))
        return 0
    if arguments.check:
        return 0 if stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == fingerprint() else 1
    if sys.prefix == sys.base_prefix:
        parser.error("run this with the Python of a virtual environment: python3 -m venv .venv")
    pins, tools = merged_pins(), read_lock("build")
    say(f"1/4 pip and build tools: {len(tools)} packages")
    install(lines_of(tools))
    say("2/4 llama.cpp: a second process builds it from source, which takes minutes the first time")
    with tempfile.TemporaryDirectory() as folder, llama_build(pins.pop(LLAMA), Path(folder)) as build:
        pair = choose_pair(pins)
        others = without_pair(pins, cpu_build=pair["torch"].version.endswith("+cpu"))
        builds = ", ".join(f"{name} {pin.version}" for name, pin in pair.items())
        say(f"3/4 {builds} and {len(others)} other packages")
        # `==2.13.0` would also take a build with a local version; `===` takes only the one that is meant.
        install([line.replace("==", "===", 1) for line in lines_of(pair)] + lines_of(others))
        say("4/4 llama.cpp, once it is built")
        wait_for_build(build, Path(folder) / LOG)
        [wheel] = Path(folder).glob("*.whl")
        pip("install", "--no-deps", "--no-index", "--no-compile", str(wheel))
    write_path_file(FOLDER.parent)
    pip("check")
    stamp.write_text(fingerprint() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
