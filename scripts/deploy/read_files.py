"""What a run reads beside its raw data: prompt sets, a chat template, a folder of images, a local model's small files.

They are found in the sections of the configuration that a bundle's provenance records.
"""

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from scripts.common.files import sha256_of
from scripts.common.path_names import name_fault
from scripts.deploy.code_state import hash_of_hashes
from scripts.model.chat_templates import BUILT_IN_TEMPLATES
from scripts.model.model_files import WEIGHTS, is_taken

FOLDERS = MODEL, IMAGES = "model.path", "dataset.images"


def read_paths(sections: dict) -> dict[str, str]:
    """Return the files and folders that the sections of a run name beside raw data, by their dotted keys."""
    sets = sections["run"].get("prompt_sets") or {}
    paths = {f"run.prompt_sets.{name}.file": prompts["file"] for name, prompts in sets.items()}
    paths |= {IMAGES: sections["dataset"].get("images"), MODEL: sections["model"].get("path")}
    template = sections["model"].get("chat_template")
    paths["model.chat_template"] = None if template in BUILT_IN_TEMPLATES else template
    return {key: path for key, path in paths.items() if path is not None}


def files_below(key: str, folder: Path, with_code: bool) -> Iterator[Path]:
    """Yield the files of a folder that the workflow reads, but no weights: the base model's manifest has them."""
    if key == MODEL:
        names = (name for name in (os.listdir(folder) if folder.is_dir() else ()) if is_taken(name, with_code))
        yield from (folder / name for name in names if not fnmatch(name, WEIGHTS))
        return
    for parent, _, names in os.walk(folder):
        yield from (path for path in (Path(parent, name) for name in names) if not name_fault(str(path)))


def read_facts(key: str, path: Path, with_code: bool = False) -> dict:
    """Return bytes and SHA-256 of a file; of a folder the number of its files and one SHA-256 over all as well.

    `with_code` tells whether the configuration lets a local model bring Python code.
    """
    if not path.is_dir():
        return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    files = [file for file in files_below(key, path, with_code) if file.is_file()]
    hashes = {file.relative_to(path).as_posix(): sha256_of(file) for file in files}
    return {
        "bytes": sum(file.stat().st_size for file in files),
        "files": len(files),
        "sha256": hash_of_hashes(hashes),
    }
