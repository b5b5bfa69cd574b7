"""Install the project's one virtual environment from the locks: `python -m envs.install`, run by the `.venv` target.

Run it with the Python of a new virtual environment. In order:

1. pip and the tools that build source packages, from build.lock;
2. torch and torchvision at their locked versions, whatever builds of them pip finds first: put an index with CPU wheels
   of both in PIP_EXTRA_INDEX_URL to get that build (`2.13.0+cpu`); without one it is the CUDA build. Two builds that
   don't fit each other (torch for the CPU, torchvision for CUDA) are replaced by those of the lock;
3. all other packages of all the locks, each with its hash; beside a CPU build of torch the CUDA libraries are left out;
4. a path file, so that `from scripts...` works without PYTHONPATH.

`--check` installs nothing and exits with 1 unless this environment is the one that the locks describe.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from envs.lock import CUDA_PREFIXES, FOLDER, Pin, environments, read_lock, requirement_line
from envs.lock import TORCH as PAIR

STAMP = "installed"


def merged_pins(folder: Path = FOLDER) -> dict[str, Pin]:
    """Return the pins of all environments; two versions of one package are a ValueError."""
    pins: dict[str, Pin] = {}
    for environment in environments(folder):
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
    for path in sorted([*folder.glob("*.lock"), Path(__file__)]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def say(line: str) -> None:
    """Print a line at once, before what it announces."""
    print(line, flush=True)


def pip(*arguments: str) -> None:
    """Run this environment's pip; sources are built with the locked tools, on all cores."""
    surroundings = {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count()), **os.environ}
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    subprocess.run(command, check=True, env=surroundings)


def install_locked(pins: dict[str, Pin]) -> None:
    """Install these pins and nothing else, each file checked against its hashes."""
    install_lines([requirement_line(name, pin) for name, pin in pins.items()])


def install_lines(lines: list[str], *options: str) -> None:
    """Install lines of a requirements file with hashes, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
        pip(
            "install", "-qq", "--no-deps", "--no-build-isolation", "--require-hashes", *options, "-r", str(requirements)
        )


def install_pair(pins: dict[str, Pin]) -> bool:
    """Install torch and torchvision in builds that fit each other; return whether they are CPU builds.

    What pip finds first is taken if it fits. Otherwise it is the builds of the lock: `===` passes over a build with a
    local version (`+cpu`), however high pip ranks it.
    """
    pair = {name: pins[name] for name in PAIR}
    builds = [install_found(name, pin) for name, pin in pair.items()]
    if len({build.partition("+")[2] for build in builds}) > 1:
        say(f"    {' and '.join(builds)} don't fit each other: the locked builds of both are taken")
        lines = [requirement_line(name, pin).replace("==", "===", 1) for name, pin in pair.items()]
        install_lines(lines, "--force-reinstall")
        builds = [pin.version for pin in pair.values()]
    say(f"    torch {builds[0]}, torchvision {builds[1]}")
    return builds[0].endswith("+cpu")


def install_found(name: str, pin: Pin) -> str:
    """Install the build of a package that pip finds first at the pinned version; return its full version.

    A build with the plain version must have a hash of the lock; one with a local version (`+cpu`) can't have.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip("install", "-qq", "--no-deps", "--force-reinstall", "--report", str(report), f"{name}=={pin.version}")
        [installed] = json.loads(report.read_text(encoding="utf-8"))["install"]
    version = installed["metadata"]["version"]
    digest = "sha256:" + installed["download_info"]["archive_info"]["hashes"]["sha256"]
    if version == pin.version and digest not in pin.hashes:
        raise SystemExit(f"{name} {version} came with {digest}, which is not in the lock")
    return version


def write_path_file(root: Path) -> None:
    """Make `scripts` importable in this environment from wherever Python is started, and Snakemake find our plugin."""
    site_packages = Path(sysconfig.get_paths()["purelib"])
    (site_packages / "snaketune.pth").write_text(f"{root}\n{root / 'scripts' / 'plugins'}\n", encoding="utf-8")


def main(argv=None) -> int:
    """Install everything, or with `--check` say whether that is needed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 unless this environment is up to date")
    stamp = Path(sys.prefix) / STAMP
    if parser.parse_args(argv).check:
        return 0 if stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == fingerprint() else 1
    if sys.prefix == sys.base_prefix:
        parser.error("run this with the Python of a virtual environment: python3 -m venv .venv")
    pins = merged_pins()
    tools = read_lock("build")
    say(f"1/4 pip and build tools: {len(tools)} packages")
    install_locked(tools)
    say("2/4 torch and torchvision")
    cpu_build = install_pair(pins)
    others = without_pair(pins, cpu_build)
    say(f"3/4 {len(others)} other packages; llama.cpp is built from source, about five minutes the first time")
    install_locked(others)
    write_path_file(FOLDER.parent)
    say("4/4 do they fit together?")
    pip("check")
    stamp.write_text(fingerprint() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
