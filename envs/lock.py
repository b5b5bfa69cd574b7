"""Make the lock and the conda file of each environment: `make lock` (`make lock UPGRADE=yes` moves what may move).

For each `envs/<env>.in` (direct requirements with exact versions) this writes

- `envs/constraints.txt`, one resolution of all environments together, so that they agree on every version;
- `envs/<env>.lock`, every transitive version with the hashes of its files;
- `envs/<env>.cpu.lock` where torch is involved: the same pins with the CPU builds of `envs/cpu.txt`, and without the
  CUDA libraries;
- `envs/<env>.yaml` and `envs/<env>.cpu.yaml`, the conda environments: python and pip from conda-forge, the rest from
  the lock. The pins stand inside because Snakemake's hash of an environment sees only that file.

Container images install the locks themselves. Lock and constraints open with the SHA-256 of what they were made of, so
that drift is found without a network. The environment `build` holds pip and what builds source packages; `workflow`
and `dev` run no rule, so they have no conda file. `trackers` is added to the others by `make trackers`.

CPU builds of torch are on no index that pip asks by itself: when torch's version moves, name an index or a folder with
them in PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
CONSTRAINTS = "constraints.txt"
PYTHON = "3.11.13"
PLATFORM = "x86_64-manylinux_2_28"
OPTIONAL = ("trackers",)
NOT_RUN_BY_RULES = ("build", "dev", "workflow", *OPTIONAL)
CPU_BUILDS = "cpu.txt"
CPU_BUILDS_HEAD = """\
# The CPU builds for the CPU variants: same version, another file. `make lock` asks pip for them when torch's version
# moves; torchvision is left out where no index has a CPU build of it, and vision runs then need the CUDA variant.
"""
TORCH = ("torch", "torchvision")
CUDA_PREFIXES = ("cuda-", "nvidia-", "triton")
# Built from source while conda makes the environment: a cluster's nodes may have no compiler. A binary for the CPU that
# builds it would die of an illegal instruction on another node, so it is built for x86-64 with AVX2.
BUILT_WITH = {"llama-cpp-python": ("cmake=3.31.6", "cxx-compiler=1.9.0", "make=4.4.1")}
BUILD_SETTINGS = {"llama-cpp-python": ' --config-settings="cmake.define.GGML_NATIVE=OFF"'}
REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)(\[[\w,-]+\])?==(?P<version>[^\s;\\]+)")


class Pin(NamedTuple):
    """One package of a lock: its version, and the hashes (`sha256:...`) of the files it may come from."""

    version: str
    hashes: tuple[str, ...]


def environments(folder: Path = FOLDER) -> list[str]:
    """Return the names of the environments."""
    return sorted(path.stem for path in folder.glob("*.in"))


def read_lock(environment: str, folder: Path = FOLDER) -> dict[str, Pin]:
    """Return the pins of an environment's lock."""
    return read_pins((folder / f"{environment}.lock").read_text(encoding="utf-8"))


def read_pins(text: str) -> dict[str, Pin]:
    """Return the pins of a requirements file with hashes."""
    pins = {}
    for line in text.replace("\\\n", " ").splitlines():
        if found := REQUIREMENT.match(line):
            pins[found["name"]] = Pin(found["version"], tuple(re.findall(r"--hash=(\S+)", line)))
    return pins


def torch_environments(folder: Path = FOLDER) -> list[str]:
    """Return the environments that have a CPU variant: those with torch in them."""
    run_by_rules = [name for name in environments(folder) if name not in NOT_RUN_BY_RULES]
    return [name for name in run_by_rules if "torch" in read_lock(name, folder)]


def lock_names(folder: Path = FOLDER) -> list[str]:
    """Return the names of all locks, `<env>` and `<env>.cpu`."""
    return [*environments(folder), *(f"{name}.cpu" for name in torch_environments(folder))]


def cpu_pins(environment: str, folder: Path = FOLDER) -> dict[str, Pin]:
    """Return the pins of an environment's CPU variant: CPU builds in place of CUDA ones, and no CUDA libraries."""
    pins = {n: pin for n, pin in read_lock(environment, folder).items() if not n.startswith(CUDA_PREFIXES)}
    builds = read_pins((folder / CPU_BUILDS).read_text(encoding="utf-8"))
    return {name: builds.get(name, pin) for name, pin in pins.items() if name not in TORCH or name in builds}


def cpu_lock(environment: str, folder: Path = FOLDER) -> str:
    """Return the text of the lock of an environment's CPU variant."""
    lines = [requirement_line(name, pin) for name, pin in sorted(cpu_pins(environment, folder).items())]
    text = "\n".join(lines).replace(" --hash", " \\\n    --hash")
    return header(folder / f"{environment}.cpu.lock") + text + "\n"


def requirement_line(name: str, pin: Pin) -> str:
    """Return the pin as one line of a requirements file, with its hashes."""
    return " ".join([f"{name}=={pin.version}", *(f"--hash={digest}" for digest in pin.hashes)])


def conda_yaml(lock: str, folder: Path = FOLDER) -> str:
    """Return the conda environment file of a lock, named `<env>` or `<env>.cpu`."""
    pins = read_lock(lock, folder)
    packages = [f"      - {requirement_line(n, pin)}{BUILD_SETTINGS.get(n, '')}" for n, pin in sorted(pins.items())]
    tools = sorted({tool for name in pins for tool in BUILT_WITH.get(name, ())})
    head = [
        f"# Made by `make lock` from {lock}.lock; do not edit.",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        f"  - python={PYTHON}",
        f"  - pip={read_lock('build', folder)['pip'].version}",
        *(f"  - {tool}" for tool in tools),
        "  - pip:",
    ]
    return "\n".join([*head, *packages]) + "\n"


def sources_of(path: Path) -> list[Path]:
    """Return the files that a generated file is made of."""
    if path.name == CONSTRAINTS:
        return [path.with_name(f"{environment}.in") for environment in environments(path.parent)]
    if path.name.endswith(".cpu.lock"):
        return [path.with_name(path.name.replace(".cpu.lock", ".lock")), path.with_name(CPU_BUILDS)]
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
    command += ["--override", str(path.parent / "overrides.txt")]
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
    update_cpu_builds(folder, upgrade)
    for environment in torch_environments(folder):
        (folder / f"{environment}.cpu.lock").write_text(cpu_lock(environment, folder), encoding="utf-8")
    for name in lock_names(folder):
        if name not in NOT_RUN_BY_RULES:
            (folder / f"{name}.yaml").write_text(conda_yaml(name, folder), encoding="utf-8")


def update_cpu_builds(folder: Path, upgrade: bool) -> None:
    """Find the CPU builds of the locked torch (and torchvision) anew, if its version moved or with `upgrade`."""
    path = folder / CPU_BUILDS
    locked = {name: pin for env in torch_environments(folder) for name, pin in read_lock(env, folder).items()}
    known = read_pins(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not upgrade and known.get("torch", Pin("", ())).version == f"{locked['torch'].version}+cpu":
        return
    found = {name: cpu_build(name, locked[name].version) for name in TORCH}
    if found["torch"] is None:
        raise SystemExit(
            f"pip finds no CPU build of torch {locked['torch'].version}: name an index or a folder with it in "
            "PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS"
        )
    lines = [requirement_line(name, pin) for name, pin in found.items() if pin is not None]
    path.write_text(CPU_BUILDS_HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def cpu_build(name: str, version: str) -> Pin | None:
    """Ask pip for the CPU build of a package at a version; None where no index has one."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "-qq"]
        command += [
            "--disable-pip-version-check",
            "--target",
            folder,
            "--only-binary=:all:",
            "--python-version",
            "3.11",
        ]
        command += ["--platform", "manylinux_2_28_x86_64", "--report", str(report), f"{name}=={version}+cpu"]
        if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
            print(f"pip finds no CPU build of {name} {version}", file=sys.stderr)
            return None
        [found] = json.loads(report.read_text(encoding="utf-8"))["install"]
        return Pin(f"{version}+cpu", (f"sha256:{found['download_info']['archive_info']['hashes']['sha256']}",))


def main(argv=None) -> int:
    """Make the locks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest transitive versions that fit")
    make_locks(upgrade=parser.parse_args(argv).upgrade)
    return 0


if __name__ == "__main__":
    sys.exit(main())
