"""What a bundle was made from: hashes of data, configuration and the files that it names, code, locks, base model and
tokenizer; seeds, versions, devices, times, energy and cost.

Nothing in it tells where on a disk, or on which machine, it was made. scripts/deploy/verify_bundle.py holds it against
what is there.
"""

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from scripts.common.environment import container_image, kind_of_environment
from scripts.common.errors import UserError
from scripts.common.files import canonical_sha256, read_json, sha256_of
from scripts.common.tokenizer_files import FILES as TOKENIZER_FILES
from scripts.deploy.code_state import code_state, hash_of_hashes
from scripts.deploy.read_files import read_facts, read_paths
from scripts.deploy.step_times import estimated_cost, step_times
from scripts.gguf.fetch_converter import read_pin

FILE_KEYS = ("files", "validation_files", "test_files")
FILE = "provenance.json"


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


def files_read(settings: dict, paths: dict[str, Path]) -> dict[str, dict]:
    """Return name, bytes and hash of what the run read beside its raw data, by the keys that name it.

    Raises UserError where it was not told of all that the configuration names.
    """
    named = read_paths(settings)
    if named.keys() != paths.keys():
        keys = ", ".join(sorted(named.keys() ^ paths.keys()))
        raise UserError(f"--read does not fit the settings: {keys}")
    with_code = settings["model"].get("trust_remote_code", False)
    return {key: {"name": without_places(named[key]), **read_facts(key, paths[key], with_code)} for key in named}


def read_argument(text: str) -> tuple[str, Path]:
    """Read a key of the configuration and the path that it names, given as KEY=PATH."""
    key, _, path = text.partition("=")
    return key, Path(path)


def last_change(path: Path) -> str:
    """Return when a file was written, in UTC to the second."""
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()


def tokenizer_facts(manifest: dict) -> dict:
    """Return the hashes of the base model's tokenizer, processor and chat template, from its manifest."""
    files = {name: manifest["files"][name]["sha256"] for name in TOKENIZER_FILES if name in manifest["files"]}
    return {"sha256": hash_of_hashes(files), "files": files}


def converter_facts(project: Path) -> dict:
    """Return package, version and hash of the pinned converter."""
    return asdict(read_pin(project / "envs" / "converter.txt"))


def devices(training: dict, scores: list[dict]) -> dict:
    """Return the device that trained, and those that answered, by variant; unknown ones are None."""
    answered = {found["variant"]: found.get("devices") for found in scores}
    return {"training": training.get("device"), "predictions": answered}


def provenance(
    settings: dict,
    project: Path,
    raw: list[Path],
    base: Path,
    training: Path,
    scores: list[dict],
    made: dict[str, Path],
    read: dict[str, Path],
    benchmarks: Path | None = None,
) -> dict:
    """Return the provenance record.

    `settings` has run, model and dataset names and their sections of the configuration; `project` is the workflow's
    folder, `base` the base model's manifest, `training` the facts of the training, in the folder of the run that made
    the model, `made` the files of this run that the bundle rests on, by name, and `read` what the run read beside its
    raw data, by key. `benchmarks` is the folder with the times of the steps.
    """
    sections = without_places(settings)
    model, facts = read_json(base), read_json(training)
    record = {
        "run": settings["run_key"],
        "trained_as": training.resolve().parent.name,
        "config": {"sha256": canonical_sha256(sections), "sections": sections},
        "data": {"name": settings["dataset_key"], **raw_data(settings["dataset"], raw)},
        "files": files_read(settings, read),
        "code": code_state(project),
        "locks": {path.name: sha256_of(path) for path in sorted((project / "envs").glob("*.lock"))},
        "converter": converter_facts(project),
        "base_model": {
            "name": settings["model_key"],
            **{key: without_places(model.get(key)) for key in ("source", "id", "revision", "license", "parameters")},
            "manifest_sha256": sha256_of(base),
        },
        "tokenizer": tokenizer_facts(model),
        "seeds": {
            "training": settings["run"]["seed"],
            "splits": settings["dataset"]["splits"]["seed"],
            "generation": settings["run"]["generation"]["seed"],
            "score": settings["run"]["score"]["seed"],
        },
        "devices": devices(facts, scores),
        "training": facts,
        "python": platform.python_version(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "environment": {"kind": kind_of_environment(), "image": container_image()},
        "made_from": {name: sha256_of(path) for name, path in made.items()},
    }
    times = step_times(benchmarks, record, record["devices"]["predictions"]) if benchmarks else []
    return record | {"steps": times, "cost": estimated_cost(times, settings["run"]["score"]["price_per_hour"])}
