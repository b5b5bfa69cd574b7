"""Make the lock and the conda file of each environment: `make lock` (`make lock UPGRADE=yes` moves what may move).

For each `envs/<env>.in` (direct requirements with exact versions) this writes

- `envs/constraints.txt`, one resolution of all environments together, so that they agree on every version;
- `envs/<env>.lock`, every transitive version with the hashes of its files;
- `envs/<env>.yaml`, the conda environment: python and pip from conda-forge, the rest from the lock. The pins stand
  inside it because Snakemake's hash of an environment sees only that file.

Lock and constraints open with the SHA-256 of what they were made of, so that drift is found without a network.
The environment `build` holds pip and what builds source packages; `workflow` and `dev` run no rule, so they have no
conda file.
"""

import argparse
import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
CONSTRAINTS = "constraints.txt"
PYTHON = "3.11.13"
PLATFORM = "x86_64-manylinux_2_28"
NOT_RUN_BY_RULES = ("build", "dev", "workflow")
REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)(\[[\w,-]+\])?==(?P<version>[^\s;\\]+)")


class Pin(NamedTuple):
    """One package of a lock: its version, and the hashes (`sha256:...`) of the files it may come from."""

    version: str
    hashes: tuple[str, ...]


def environments(folder: Path = FOLDER) -> list[str]:
    """Return the names of the environments."""
    return sorted(path.stem for path in folder.glob("*.in"))


def canonical(name: str) -> str:
    """Return a package's name as the packaging standard normalises it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def direct_requirements(environment: str, folder: Path = FOLDER) -> dict[str, str]:
    """Return the direct requirements of an environment, name to exact version; anything else is a ValueError."""
    pins = {}
    for line in (folder / f"{environment}.in").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            found = REQUIREMENT.fullmatch(line.strip())
            if not found:
                raise ValueError(f"envs/{environment}.in: '{line}' is not of the form name==version")
            pins[canonical(found["name"])] = found["version"]
    return pins


def read_lock(environment: str, folder: Path = FOLDER) -> dict[str, Pin]:
    """Return the pins of an environment's lock."""
    text = (folder / f"{environment}.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    pins = {}
    for line in text.splitlines():
        if found := REQUIREMENT.match(line):
            pins[found["name"]] = Pin(found["version"], tuple(re.findall(r"--hash=(\S+)", line)))
    return pins


def requirement_line(name: str, pin: Pin) -> str:
    """Return the pin as one line of a requirements file, with its hashes."""
    return " ".join([f"{name}=={pin.version}", *(f"--hash={digest}" for digest in pin.hashes)])


def conda_yaml(environment: str, folder: Path = FOLDER) -> str:
    """Return the conda environment file of a lock."""
    pins = read_lock(environment, folder)
    packages = [f"      - {requirement_line(name, pin)}" for name, pin in sorted(pins.items())]
    head = [
        f"# Made by `make lock` from {environment}.lock; do not edit.",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        f"  - python={PYTHON}",
        f"  - pip={read_lock('build', folder)['pip'].version}",
        "  - pip:",
    ]
    return "\n".join([*head, *packages]) + "\n"


def sources_of(path: Path) -> list[Path]:
    """Return the files that a generated file is made of."""
    if path.name == CONSTRAINTS:
        return [path.with_name(f"{environment}.in") for environment in environments(path.parent)]
    return [path.with_suffix(".in"), path.with_name(CONSTRAINTS)]


def header(path: Path) -> str:
    """Return the first lines of a generated file: what it was made of, with hashes."""
    lines = ["# Made by `make lock`; do not edit."]
    for source in sources_of(path):
        lines.append(f"# {source.name} sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}")
    return "\n".join(lines) + "\n"


def compile_requirements(path: Path, *options: str) -> None:
    """Resolve the sources of `path` with uv and write it; versions that are in it stay, where they still fit."""
    sources = [str(source) for source in sources_of(path) if source.suffix == ".in"]
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--python-version", "3.11"]
    command += ["--python-platform", PLATFORM, "--no-header", "--no-annotate", "--no-emit-index-url"]
    subprocess.run([*command, *options, *sources, "--output-file", str(path)], check=True, stdout=subprocess.DEVNULL)
    path.write_text(header(path) + path.read_text(encoding="utf-8"), encoding="utf-8")


def make_locks(folder: Path = FOLDER, upgrade: bool = False) -> None:
    """Make constraints, locks and conda files anew."""
    constraints = folder / CONSTRAINTS
    compile_requirements(constraints, *(["--upgrade"] if upgrade else []))
    for environment in environments(folder):
        lock = folder / f"{environment}.lock"
        lock.unlink(missing_ok=True)
        compile_requirements(lock, "--generate-hashes", "--constraints", str(constraints))
    for environment in environments(folder):
        if environment not in NOT_RUN_BY_RULES:
            (folder / f"{environment}.yaml").write_text(conda_yaml(environment, folder), encoding="utf-8")


def main(argv=None) -> int:
    """Make the locks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest transitive versions that fit")
    make_locks(upgrade=parser.parse_args(argv).upgrade)
    return 0


if __name__ == "__main__":
    sys.exit(main())
