"""Fetch llama.cpp's converter from the pinned, hash-checked source archive of llama-cpp-python.

    python scripts/gguf/fetch_converter.py envs/converter.txt --folder results/tools/llama.cpp

pip downloads the archive from its configured index. Without a network, name the archive in the environment variable
SNAKETUNE_LLAMA_CPP_ARCHIVE; its hash is checked too. A container image has the converter in the folder
SNAKETUNE_LLAMA_CPP_FOLDER, with the pin of its archive.
"""

import importlib.util
import logging
import os
import re
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scripts.common.cli import step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_folder, sha256_of, write_manifest
from scripts.common.offline import pip_download

ARCHIVE_VARIABLE = "SNAKETUNE_LLAMA_CPP_ARCHIVE"
FOLDER_VARIABLE = "SNAKETUNE_LLAMA_CPP_FOLDER"
BUILD_BACKEND = "scikit_build_core"
SOURCE, LICENSE = "/vendor/llama.cpp/", "LICENSE"
NEEDED = ("convert_hf_to_gguf.py", "conversion/", "gguf-py/gguf/", LICENSE)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pin:
    """A package at one version and the SHA-256 of its archive."""

    package: str
    version: str
    sha256: str


def read_pin(path: Path) -> Pin:
    """Return the only pin of a requirements file."""
    text = re.sub(r"(?m)^\s*#.*$", "", path.read_text(encoding="utf-8"))
    found = re.findall(r"([\w.-]+)==([\w.]+)[\s\\]+--hash=sha256:([0-9a-f]{64})", text)
    if len(found) != 1:
        raise UserError(f"has {len(found)} lines 'package==version --hash=sha256:...', not one", path)
    return Pin(*found[0])


def download_archive(requirements: Path, folder: Path) -> Path:
    """Download the archive into a folder with pip; nothing is compiled. pip reads the metadata with the package's build
    backend: the installed one, or else pip downloads it.
    """
    pin = read_pin(requirements)
    isolation = ["--no-build-isolation"] if importlib.util.find_spec(BUILD_BACKEND) else []
    options = ["--no-binary", pin.package, *isolation]
    return pip_download(requirements, folder, options, f"{pin.package} {pin.version}", ARCHIVE_VARIABLE)


def pinned_archive(requirements: Path, folder: Path, archive: Path | None = None) -> Path:
    """Return `archive`, or download it into a folder; raises UserError if it is not the one that is pinned."""
    pin = read_pin(requirements)
    archive = archive or download_archive(requirements, folder)
    if not archive.is_file():
        raise UserError("is missing", archive, remedy=f"correct or unset {ARCHIVE_VARIABLE}")
    if (found := sha256_of(archive)) != pin.sha256:
        raise UserError(f"has SHA-256 {found}, not {pin.sha256} of {pin.package} {pin.version}", archive)
    return archive


def unpack(archive: Path, folder: Path, needed: tuple[str, ...], endings: tuple[str, ...]) -> None:
    """Unpack llama.cpp's files of these names (folders end with `/`) and endings from the archive into a folder.

    Raises UserError for a member outside of the folder, and if a name is missing.
    """
    with tarfile.open(archive) as content:
        for member in content:
            name = member.name.partition(SOURCE)[2]
            if not member.isfile() or not name.startswith(needed) or not name.endswith(endings):
                continue
            if ".." in name.split("/"):
                raise UserError(f"has a file that leads out of the folder: '{member.name}'", archive)
            # Not by `extract`: Python before 3.11.4, as in Debian 12, has no filter that refuses such files.
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.extractfile(member).read())
    missing = [name for name in needed if not (folder / name).exists()]
    if missing:
        raise UserError(f"has no {SOURCE}{missing[0]}", archive)


def copy_converter(source: Path, requirements: Path, folder: Path) -> None:
    """Copy the converter of a container image; raises UserError if it comes from another archive."""
    pin, found = read_pin(requirements), read_pin(source / requirements.name)
    if found != pin:
        raise UserError(f"holds {found.package} {found.version}, not {pin.version}", source, remedy="make containers")
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(requirements.name, "__pycache__"), dirs_exist_ok=True)


def fetch_converter(
    requirements: Path, folder: Path, archive: Path | None = None, image_folder: Path | None = None
) -> None:
    """Write the folder with the converter, its manifest last; `archive` or `image_folder` replaces the download.

    Raises UserError for an archive or a folder of another version.
    """
    pin = read_pin(requirements)
    with tempfile.TemporaryDirectory() as temporary, atomic_folder(folder) as beside:
        if image_folder and not archive:
            copy_converter(image_folder, requirements, beside)
        else:
            archive = pinned_archive(requirements, Path(temporary), archive)
            unpack(archive, beside, NEEDED, (".py", LICENSE))
        write_manifest(beside, package=pin.package, version=pin.version, sha256=pin.sha256)
    log.info("made of %s %s", pin.package, pin.version)


def step(arguments) -> None:
    """Run the step."""
    archive, source = (os.environ.get(name) for name in (ARCHIVE_VARIABLE, FOLDER_VARIABLE))
    fetch_converter(arguments.requirements, arguments.folder, archive and Path(archive), source and Path(source))


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("requirements", type=Path, help="file with the pinned version and hash")
    result.add_argument("--folder", type=Path, required=True, help="folder to make")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
