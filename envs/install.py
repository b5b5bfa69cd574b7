"""Install the project's one virtual environment from the locks: `python -m envs.install`, run by the `.venv` target.

Run it with the Python of a new virtual environment. In order:

1. pip and the tools that build source packages, from build.lock;
2. torch at its locked version, whatever build of it pip finds first: put a folder or an index with CPU wheels in
   PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL to get that build (`2.13.0+cpu`); without one it is the CUDA build;
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

from envs.lock import FOLDER, Pin, environments, read_lock, requirement_line

STAMP = "installed"
CUDA_PREFIXES = ("cuda-", "nvidia-", "triton")


def merged_pins(folder: Path = FOLDER) -> dict[str, Pin]:
    """Return the pins of all environments; two versions of one package are a ValueError."""
    pins: dict[str, Pin] = {}
    for environment in environments(folder):
        for name, pin in read_lock(environment, folder).items():
            if pins.setdefault(name, pin).version != pin.version:
                raise ValueError(f"{environment}.lock has {name} {pin.version}, not {pins[name].version}: make lock")
    return pins


def without_torch(pins: dict[str, Pin], cpu_build: bool) -> dict[str, Pin]:
    """Return what is installed beside torch: for its CPU build, no CUDA libraries."""
    left_out = CUDA_PREFIXES if cpu_build else ()
    return {name: pin for name, pin in pins.items() if name != "torch" and not name.startswith(left_out)}


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
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        lines = (f"{requirement_line(name, pin)}\n" for name, pin in pins.items())
        requirements.write_text("".join(lines), encoding="utf-8")
        pip("install", "-qq", "--no-deps", "--no-build-isolation", "--require-hashes", "-r", str(requirements))


def install_torch(pin: Pin) -> bool:
    """Install the build of torch that pip finds first; return whether it is a CPU build.

    A build with the plain version must have a hash of the lock; one with a local version (`+cpu`) can't have.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip("install", "-qq", "--no-deps", "--report", str(report), f"torch=={pin.version}")
        [installed] = json.loads(report.read_text(encoding="utf-8"))["install"]
    version = installed["metadata"]["version"]
    digest = "sha256:" + installed["download_info"]["archive_info"]["hashes"]["sha256"]
    if version == pin.version and digest not in pin.hashes:
        raise SystemExit(f"torch {version} came with {digest}, which is not in the lock")
    say(f"    {version}")
    return version.endswith("+cpu")


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
    say(f"2/4 torch {pins['torch'].version}")
    cpu_build = install_torch(pins["torch"])
    others = without_torch(pins, cpu_build)
    say(f"3/4 {len(others)} other packages; llama.cpp is built from source, about five minutes the first time")
    install_locked(others)
    write_path_file(FOLDER.parent)
    say("4/4 do they fit together?")
    pip("check")
    stamp.write_text(fingerprint() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
