"""The conda files without conda: what pip and the index say of their pip sections. Needs an index, downloads much."""

import re
import subprocess
import sys

import pytest
import yaml

from envs.install import choose_pair
from envs.lock import FOLDER, NOT_RUN_BY_RULES, PLATFORM, TORCH, cpu_build, lock_names, read_lock, read_pins

NAMES = [name for name in lock_names() if name not in NOT_RUN_BY_RULES]
# Of packages that are in several files, one is enough: the lines are the same.
CUDA_ONLY = [name for name in NAMES if f"{name}.cpu" in NAMES]


def pip_section(name: str) -> list[str]:
    """Return the lines of a conda file's pip section."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["dependencies"][-1]["pip"]


def test_pip_accepts_every_line_that_a_cpu_needs_and_the_hash_of_what_it_gets(tmp_path):
    lines = sorted({line for name in NAMES if name not in CUDA_ONLY for line in pip_section(name)})
    (tmp_path / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "--require-hashes",
    ]
    command += [
        "--target",
        str(tmp_path / "nowhere"),
        "--progress-bar",
        "off",
        "-r",
        str(tmp_path / "requirements.txt"),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    [would] = re.findall(r"^Would install (.*)$", done.stdout, re.MULTILINE)
    assert len(would.split()) == len(lines)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(".cpu")])
def test_the_index_has_every_version_with_every_hash_of_a_lock(name, tmp_path):
    lock = read_lock(name)
    pins = tmp_path / "pins.in"
    pins.write_text("".join(f"{package}=={pin.version}\n" for package, pin in lock.items()), encoding="utf-8")
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", "--no-header"]
    command += ["--python-version", "3.11", "--python-platform", PLATFORM, "--no-annotate", str(pins)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = read_pins(done.stdout)
    assert listed.keys() == lock.keys()
    # An index may get more files for a version, never others for those that it has.
    missing = {package for package, pin in lock.items() if not set(pin.hashes) <= set(listed[package].hashes)}
    assert not missing


def test_torch_and_torchvision_are_chosen_in_builds_that_fit_each_other_each_with_its_hash():
    chosen = choose_pair(read_lock("train"))
    assert chosen.keys() == set(TORCH)
    assert len({pin.version.partition("+")[2] for pin in chosen.values()}) == 1
    assert all(digest.startswith("sha256:") for pin in chosen.values() for digest in pin.hashes)


def test_the_cpu_build_of_torch_is_the_one_that_pip_finds():
    locked = read_lock("train")[TORCH[0]].version
    assert cpu_build("torch", locked) == read_lock("train.cpu")["torch"]
