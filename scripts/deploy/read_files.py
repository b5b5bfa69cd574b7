"""The files that a run reads in addition to raw data: prompt sets, custom metrics, votes, corrections, chat template,
images, models.
"""

import hashlib
import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from scripts.common.files import sha256_of
from scripts.common.plain_text import name_fault
from scripts.model.chat_templates import BUILT_IN_TEMPLATES
from scripts.model.model_files import WEIGHTS, is_taken

FOLDERS = MODEL, IMAGES = "model.path", "dataset.images"
# Files that people make later; a run does without them.
OPTIONAL = ("run.score.votes", "dataset.corrections")


def read_paths(sections: dict) -> dict[str, str]:
    """Return the files and folders in a run's sections, other than raw data, by their dotted keys."""
    model, sets = sections["model"], sections["run"].get("prompt_sets") or {}
    gguf, template = model.get("gguf") or {}, model.get("chat_template")
    paths = {f"run.prompt_sets.{name}.file": prompts["file"] for name, prompts in sets.items()}
    paths |= {f"run.score.{key}": (sections["run"].get("score") or {}).get(key) for key in ("metrics_from", "votes")}
    paths |= {IMAGES: sections["dataset"].get("images"), MODEL: model.get("path")}
    paths["dataset.corrections"] = sections["dataset"].get("corrections")
    paths["model.gguf.file"] = None if gguf.get("package") else gguf.get("file")
    paths["model.chat_template"] = None if template in BUILT_IN_TEMPLATES else template
    return {key: path for key, path in paths.items() if path is not None}


def files_below(key: str, folder: Path, with_code: bool) -> Iterator[Path]:
    """Yield the files of a folder that the workflow reads, except weights; `with_code`: Python code as well."""
    for parent, folders, names in os.walk(folder):
        for name in names:
            if key != MODEL and not name_fault(os.path.join(parent, name)):
                yield Path(parent, name)
            if key == MODEL and is_taken(name, with_code) and not fnmatch(name, WEIGHTS):
                yield Path(parent, name)
        if key == MODEL:
            folders.clear()  # a model has no files in subfolders


def read_facts(key: str, path: Path, with_code: bool = False) -> dict:
    """Return size and SHA-256 of a file; for a folder also the number of files, with one SHA-256 over all."""
    if not path.is_dir():
        return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    files = [file for file in files_below(key, path, with_code) if file.is_file()]
    hashes = {file.relative_to(path).as_posix(): sha256_of(file) for file in files}
    size = sum(file.stat().st_size for file in files)
    return {"bytes": size, "files": len(files), "sha256": hash_of_hashes(hashes)}


def hash_of_hashes(files: dict[str, str]) -> str:
    """Return one SHA-256 over names and hashes."""
    text = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()
