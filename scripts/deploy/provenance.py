"""The provenance of a bundle: hashes of data, configuration, code, lock files, base model and tokenizer, with seeds,
versions, devices, times, energy and cost. It contains no paths or names of the machine. scripts/deploy/verify_bundle.py
compares it with the present files.
"""

import argparse
import csv
import os
import platform
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

from scripts.common.checksums import checksum_path, known_sha256, recorded_inputs
from scripts.common.environment import container_image, kind_of_environment
from scripts.common.errors import UserError
from scripts.common.files import canonical_sha256, read_json, sha256_of
from scripts.deploy.read_files import OPTIONAL, hash_of_hashes, read_facts, read_paths
from scripts.gguf.fetch_converter import read_pin
from scripts.model.tokenizer_files import FILES as TOKENIZER_FILES

FILE = "provenance.json"
FILE_KEYS = ("files", "validation_files", "test_files")
CODE = ("Snakefile", "rules/*.smk", "scripts/**/*.py", "scripts/**/*.html", "scripts/**/*.jinja", "scripts/**/*.txt")
STAGES = ("dataset", "model", "train", "gguf", "predict", "score")
# Steps that write pages and charts, which a bundle does not include; they may run after the bundle is built.
BESIDE = (
    "write_dataset_ledger", "plot_curve", "draw_confusion", "write_run_report", "report_to_trackers",
    "write_leaderboard",
)  # fmt: skip


def without_places(value: Any) -> Any:
    """Return a configuration with each absolute path reduced to its last component."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    is_path = isinstance(value, str) and PurePath(value).is_absolute() and "\n" not in value
    return PurePath(value).name if is_path else value


def name_in_config(path: Path, dataset: dict) -> str:
    """Return a raw file's path as in its dataset's section: relative, or the last component of an absolute path."""
    for pattern in (PurePath(pattern) for key in FILE_KEYS for pattern in dataset[key] or []):
        if not pattern.is_absolute() and path.match(str(pattern)):
            return PurePath(*path.parts[-len(pattern.parts) :]).as_posix()
    return path.name


def located(path: Path | str, project: Path) -> Path | None:
    """Resolve a path of the configuration: from the working directory, else from the workflow's folder."""
    return next((root / path for root in (Path(), project) if (root / path).exists()), None)


def files_read(sections: dict, project: Path, sources: set[Path]) -> dict[str, dict]:
    """Return name, size and hash of the files that a run read in addition to raw data, by their configuration keys.

    Votes and corrections are among them only if they are among the `sources` (resolved) of its results: people may have
    made the file since.
    """
    with_code, found = sections["model"].get("trust_remote_code", False), {}
    for key, path in read_paths(sections).items():
        place = located(path, project)
        if key in OPTIONAL and (place is None or place.resolve() not in sources):
            continue
        if place is None:
            raise UserError(f"{key} is missing", path)
        found[key] = {"name": without_places(path), **read_facts(key, place, with_code)}
    return found


def code_files(project: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the workflow's code, by its relative path."""
    paths = sorted({path for pattern in CODE for path in project.glob(pattern)})
    return {path.relative_to(project).as_posix(): sha256_of(path) for path in paths}


def git(project: Path, *words: str) -> str | None:
    """Return the output of a git command in the workflow's folder; None if it fails or git is missing."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    with suppress(OSError):
        done = subprocess.run(
            ["git", *words], cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout if done.returncode == 0 else None


def code_state(project: Path) -> dict:
    """Return the code's hashes, its commit, and whether it differs from the commit (`dirty`); None if git can't say.

    A folder with an untracked Snakefile, such as a copy inside of another project, has no commit.
    """
    files, commit, dirty = code_files(project), None, None
    if git(project, "ls-files", "--error-unmatch", "Snakefile") and (head := git(project, "rev-parse", "HEAD")):
        commit = head.strip()
        changes = git(project, "status", "--porcelain", "Snakefile", "rules", "scripts", "envs")
        dirty = None if changes is None else changes != ""
    return {"sha256": hash_of_hashes(files), "commit": commit, "dirty": dirty, "files": files}


def converter_facts(project: Path) -> dict:
    """Return package, version and hash of the pinned converter."""
    return asdict(read_pin(project / "envs" / "converter.txt"))


def broken_links(results: Iterable[Path], sources: set[Path]) -> Iterable[tuple[Path, Path, bool]]:
    """Yield (result, input, whether the input exists) for each recorded input that has changed since it was read.

    `results` are outputs of steps. They and all files that they were made from are added to `sources`.
    """
    waiting = list(results)
    for made in waiting:  # grows while it is read
        if made in sources:
            continue
        sources.add(made)
        for read, recorded in recorded_inputs(made).items() if checksum_path(made).is_file() else ():
            if not read.is_file() or known_sha256(read) != recorded:
                yield made, read, read.is_file()
            waiting.append(read)


def check_chain(results: list[Path], raw: list[Path]) -> set[Path]:
    """Follow a bundle's files back to its raw files; return all files that it was made from, resolved."""
    sources: set[Path] = set()
    for made, read, is_there in broken_links(results, sources):
        what = "has changed since" if is_there else "is missing"
        remedy = f"delete {made}: the next run makes it and everything that depends on it again"
        raise UserError(f"was made from {read}, which {what}", made, remedy=remedy)
    sources = {path.resolve() for path in sources}
    if unused := {path.resolve() for path in raw} - sources:
        remedy = f"delete {results[0]}: the next run makes it and everything that depends on it again"
        raise UserError("nothing in this bundle was made from it", min(unused), remedy=remedy)
    return sources


def step_times(folder: Path, record: dict) -> list[dict]:
    """Return the seconds of each step for a run, its dataset, base model and training, from benchmark files."""
    runs, found = {record["run"], record["trained_as"]}, []
    names = {"dataset": {record["data"]["name"]}, "model": {record["base_model"]["name"]}}
    for stage in STAGES:
        plain = names.get(stage, runs)
        known = dict.fromkeys(plain) | {f"{name}.{v}": v for name in plain for v in record["devices"]["predictions"]}
        for path in sorted((folder / stage).glob("**/*.tsv")):
            alone = path.parent == folder / stage
            step = path.stem if alone else path.parent.name
            if step not in BESIDE and (alone or path.stem in known):
                with open(path, encoding="utf-8", newline="") as file:
                    rows = list(csv.DictReader(file, delimiter="\t"))
                seconds = float(rows[-1]["s"]) if rows else 0.0
                found.append({"stage": stage, "step": step, "variant": known.get(path.stem), "seconds": seconds})
    return found


def provenance(arguments: argparse.Namespace, project: Path, scores: list[dict], made: dict[str, Path]) -> dict:
    """Return the provenance record; `arguments` are those of build_bundle.py, `project` is the workflow's folder.

    `made` are the files of this run that the bundle is made from, by name. Raises UserError if a result was not made
    from the present files.
    """
    settings, raw, base, training = arguments.settings, arguments.raw, arguments.base, arguments.training
    sources = check_chain([*made.values(), base, training], raw)
    sections, dataset, run = without_places(settings), settings["dataset"], settings["run"]
    model, facts, verdict = read_json(base), read_json(training), read_json(arguments.verdict)
    told = {
        key: without_places(model.get(key)) for key in ("source", "id", "revision", "gguf", "license", "parameters")
    }
    tokenizer = {name: model["files"][name]["sha256"] for name in TOKENIZER_FILES if name in model["files"]}
    files = [{"name": name_in_config(p, dataset), "bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in raw]
    record = {
        "run": settings["run_key"],
        "trained_as": training.resolve().parent.name,
        "config": {"files": list(arguments.configfile), "sha256": canonical_sha256(sections), "sections": sections},
        "data": {"name": settings["dataset_key"], **({"hub": dataset["hub"]} if dataset["hub"] else {"files": files})},
        "files": files_read(settings, project, sources),
        "code": code_state(project),
        "locks": {path.name: sha256_of(path) for path in sorted((project / "envs").glob("*.lock"))},
        "converter": converter_facts(project),
        "base_model": {"name": settings["model_key"], **told, "manifest_sha256": sha256_of(base)},
        "tokenizer": {"sha256": hash_of_hashes(tokenizer), "files": tokenizer},
        "seeds": {
            "training": run["seed"],
            "splits": dataset["splits"]["seed"],
            "generation": run["generation"]["seed"],
            "score": run["score"]["seed"],
        },
        "devices": {
            "training": facts.get("device"),
            "predictions": {found["variant"]: found.get("devices") for found in scores},
        },
        "training": facts,
        "python": platform.python_version(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "environment": {"kind": kind_of_environment(), "image": container_image()},
        "verdict": {key: verdict.get(key) for key in ("verdict", "reason", "advice", "chosen")},
        "made_from": {name: sha256_of(path) for name, path in made.items()},
    }
    times = step_times(arguments.benchmarks, record) if arguments.benchmarks else []
    price = run["score"]["price_per_hour"]
    hours = sum(step["seconds"] for step in times) / 3600
    estimate = None if price is None else round(hours * price, 6)
    cost = {"hours": round(hours, 6), "price_per_hour": price, "estimate": estimate}
    return record | {"steps": times, "cost": cost}
