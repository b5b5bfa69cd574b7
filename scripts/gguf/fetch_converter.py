"""Fetch llama.cpp's own converter: the pinned source archive of llama-cpp-python, hash-checked, unpacked in part.

    python scripts/gguf/fetch_converter.py envs/converter.txt --folder results/tools/llama.cpp

pip fetches the archive, from wherever it is configured to. Without a network, name the archive in the environment
variable SNAKETUNE_LLAMA_CPP_ARCHIVE; its hash is checked all the same. A container image has the converter in a folder
of its own, which SNAKETUNE_LLAMA_CPP_FOLDER names, with the pin that it was unpacked from.
"""

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scripts.common.cli import run_step, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_folder, sha256_of, write_manifest
from scripts.common.offline import PAGE, is_offline
from scripts.common.orphans import die_with_parent

ARCHIVE_VARIABLE = "SNAKETUNE_LLAMA_CPP_ARCHIVE"
FOLDER_VARIABLE = "SNAKETUNE_LLAMA_CPP_FOLDER"
BUILD_BACKEND = "scikit_build_core"
SOURCE = PurePosixPath("vendor/llama.cpp")
NEEDED = ("convert_hf_to_gguf.py", "conversion", "gguf-py/gguf", "LICENSE")
LARGEST_FILE = 20_000_000
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pin:
    """A package at one version and the SHA-256 of its archive."""

    package: str
    version: str
    sha256: str


def read_pin(path: Path) -> Pin:
    """Return the one pin of a requirements file."""
    text = re.sub(r"(?m)^\s*#.*$", "", path.read_text(encoding="utf-8"))
    found = re.findall(r"([\w.-]+)==([\w.]+)[\s\\]+--hash=sha256:([0-9a-f]{64})", text)
    if len(found) != 1:
        raise UserError(f"has {len(found)} lines 'package==version --hash=sha256:...', not one", path)
    return Pin(*found[0])


def download_archive(requirements: Path, folder: Path) -> Path:
    """Have pip download the archive into a folder; nothing is compiled.

    pip asks the package's build backend for its metadata. Where that backend is installed it is used, otherwise pip
    gets it for itself.
    """
    pin = read_pin(requirements)
    if is_offline():
        raise UserError(
            f"the archive of {pin.package} {pin.version} is needed for its converter, and 'offline: true' forbids to "
            "download it",
            remedy=f"carry it here and name the file in {ARCHIVE_VARIABLE} ({PAGE})",
        )
    isolation = ["--no-build-isolation"] if importlib.util.find_spec(BUILD_BACKEND) else []
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", pin.package, "--require-hashes"]
    command += [*isolation, "--progress-bar", "off", "--disable-pip-version-check", "--no-input"]
    command += ["-d", str(folder), "-r", str(requirements)]
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        preexec_fn=die_with_parent,
    )
    log.info("%s", result.stdout.strip())
    archives = list(folder.glob("*.tar.gz"))
    if result.returncode or len(archives) != 1:
        reasons = [line.strip() for line in result.stdout.splitlines() if line.strip().lower().startswith("error")]
        raise UserError(
            f"pip can't fetch {pin.package} {pin.version}: {(reasons or ['no reason given'])[-1]}",
            remedy=f"fetch the archive by hand and name it in {ARCHIVE_VARIABLE}",
        )
    return archives[0]


def check_archive(archive: Path, pin: Pin) -> None:
    """Refuse an archive that is not the pinned one."""
    if not archive.is_file():
        raise UserError("is missing", archive, remedy=f"mend or unset {ARCHIVE_VARIABLE}")
    found = sha256_of(archive)
    if found != pin.sha256:
        raise UserError(f"has SHA-256 {found}, not {pin.sha256} of {pin.package} {pin.version}", archive)


def unpack_converter(archive: Path, folder: Path) -> int:
    """Unpack the converter from the archive into a folder; return the number of files.

    Members that lead out of the folder, links and oversized files are refused.
    """
    count = 0
    with tarfile.open(archive) as content:
        for member in content:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or not path.is_relative_to(SOURCE):
                continue
            inside = path.relative_to(SOURCE)
            if not any(inside.is_relative_to(needed) for needed in NEEDED) or inside.suffix not in (".py", ""):
                continue
            if member.size > LARGEST_FILE:
                raise UserError(f"has an unexpectedly large file '{member.name}'", archive)
            if ".." in inside.parts:
                raise UserError(f"has a file that leads out of the folder: '{member.name}'", archive)
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.extractfile(member).read())
            count += 1
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        raise UserError(f"has no {SOURCE / missing[0]}", archive)
    return count


def copy_converter(source: Path, requirements: Path, folder: Path) -> int:
    """Copy the converter of a container image into a folder; return the number of files.

    One that was unpacked from another archive than the pinned one is refused.
    """
    pin, found = read_pin(requirements), read_pin(source / requirements.name)
    if found != pin:
        raise UserError(f"holds {found.package} {found.version}, not {pin.version}", source, remedy="make containers")
    files = [path for needed in NEEDED for path in [source / needed, *(source / needed).rglob("*")] if path.is_file()]
    for path in files:
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return len(files)


def fetch_from_folder(requirements: Path, folder: Path, source: Path) -> None:
    """Make the folder with the converter from that of a container image, its manifest last."""
    pin = read_pin(requirements)
    with atomic_folder(folder) as beside:
        count = copy_converter(source, requirements, beside)
        write_manifest(beside, package=pin.package, version=pin.version, sha256=pin.sha256)
    log.info("copied %d files of %s %s", count, pin.package, pin.version)


def fetch_converter(requirements: Path, folder: Path, archive: Path | None = None) -> None:
    """Make the folder with the converter, its manifest last; `archive` is used instead of a download."""
    pin = read_pin(requirements)
    with tempfile.TemporaryDirectory() as temporary:
        archive = archive or download_archive(requirements, Path(temporary))
        check_archive(archive, pin)
        with atomic_folder(folder) as beside:
            count = unpack_converter(archive, beside)
            write_manifest(beside, package=pin.package, version=pin.version, sha256=pin.sha256)
    log.info("unpacked %d files of %s %s", count, pin.package, pin.version)


def step(arguments) -> None:
    """Run the step."""
    archive, source = os.environ.get(ARCHIVE_VARIABLE), os.environ.get(FOLDER_VARIABLE)
    if source and not archive:
        fetch_from_folder(arguments.requirements, arguments.folder, Path(source))
        return
    fetch_converter(arguments.requirements, arguments.folder, Path(archive) if archive else None)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("requirements", type=Path, help="file with the pinned version and hash")
    result.add_argument("--folder", type=Path, required=True, help="folder to make")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
