"""What a bundle was made from: hashes of data, configuration, code and locks, the base model, seeds, versions, device.

Nothing in it tells where on a disk, or on which machine, it was made.
"""

import hashlib
import platform
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

from scripts.common.files import canonical_sha256, read_json, sha256_of
from scripts.gguf.fetch_converter import read_pin

FILE_KEYS = ("files", "validation_files", "test_files")
CODE = ("Snakefile", "rules/*.smk", "scripts/**/*.py", "scripts/**/*.html", "scripts/**/*.jinja")


def files_hash(folder: Path, patterns: tuple[str, ...]) -> str:
    """Return one SHA-256 over names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()


def without_places(value: Any) -> Any:
    """Return a configuration with each absolute path cut down to its last part."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    if isinstance(value, str) and PurePath(value).is_absolute() and "\n" not in value:
        return PurePath(value).name
    return value


def name_in_config(path: Path, patterns: list[str]) -> str:
    """Return a raw file's path as the configuration names it: relative; of an absolute one the last part."""
    for pattern in map(PurePath, patterns):
        if not pattern.is_absolute() and path.match(str(pattern)):
            return PurePath(*path.parts[-len(pattern.parts) :]).as_posix()
    return path.name


def raw_data(dataset: dict, files: list[Path]) -> dict:
    """Return the raw data's names and hashes, or the pinned hub dataset."""
    if dataset["hub"]:
        return {"hub": dataset["hub"]}
    patterns = [pattern for key in FILE_KEYS for pattern in dataset[key] or []]
    return {
        "files": [
            {
                "name": name_in_config(path, patterns),
                "bytes": path.stat().st_size,
                "sha256": sha256_of(path),
            }
            for path in files
        ]
    }


def provenance(
    settings: dict, project: Path, raw: list[Path], base: Path, training: Path, made: dict[str, Path]
) -> dict:
    """Return the provenance record.

    `settings` has run, model and dataset names and their sections of the configuration; `project` is the workflow's
    folder, `base` the base model's manifest, `training` the facts of the training, and `made` the files of this run
    that the bundle rests on, by name.
    """
    sections = without_places(settings)
    model, facts = read_json(base), read_json(training)
    return {
        "run": settings["run_key"],
        "config": {"sha256": canonical_sha256(sections), "sections": sections},
        "data": raw_data(settings["dataset"], raw),
        "code": {"sha256": files_hash(project, CODE)},
        "locks": {path.name: sha256_of(path) for path in sorted((project / "envs").glob("*.lock"))},
        "converter": asdict(read_pin(project / "envs" / "converter.txt")),
        "base_model": {
            "name": settings["model_key"],
            **{key: without_places(model.get(key)) for key in ("source", "id", "revision", "license", "parameters")},
            "manifest_sha256": sha256_of(base),
        },
        "seeds": {
            "training": settings["run"]["seed"],
            "splits": settings["dataset"]["splits"]["seed"],
            "generation": settings["run"]["generation"]["seed"],
            "score": settings["run"]["score"]["seed"],
        },
        "training": facts,
        "python": platform.python_version(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "made_from": {name: sha256_of(path) for name, path in made.items()},
    }
