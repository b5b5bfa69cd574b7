"""Find the files that the configuration names, and report missing ones."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts.common.plain_text import name_fault
from scripts.config.checks import Conflict
from scripts.config.faults import did_you_mean, nearest
from scripts.config.sites import RECORDS
from scripts.model.chat_templates import BUILT_IN_TEMPLATES

Roots = Sequence[Path | str]
FILE_KEYS = ("files", "validation_files", "test_files")


def files_at(pattern: str, roots: Roots) -> list[str]:
    """Return the paths that match a path or a glob, sorted, from the first root that has any."""
    for root in roots:
        named = [pattern] if os.path.exists(os.path.join(root, pattern)) else sorted(glob.glob(pattern, root_dir=root))
        if named:
            own = root == os.curdir or os.path.isabs(pattern)
            return named if own else [os.path.relpath(os.path.join(root, path)) for path in named]
    return []


def missing_files(config: Any, roots: Roots) -> Iterator[Conflict]:
    """Yield the files and folders that the configuration names and that are in none of the roots.

    Files in the results folder are not reported, because a rule makes them, and neither are the records of a site,
    which `snakemake collect` makes.
    """
    results = config.pathvars.get("results", "results")
    for place, path in named_paths(config):
        is_glob = place[-1] in FILE_KEYS and glob.has_magic(path)
        found = files_at(path, roots) if is_glob else any(os.path.exists(os.path.join(root, path)) for root in roots)
        for name in found if is_glob else ():
            if fault := name_fault(name):
                yield Conflict(place, f"'{path}' matches '{name}', which {fault}")
        if not found and not is_inside(path, results) and not site_of_file(config, path):
            what = "matches no file" if is_glob else "does not exist"
            yield Conflict(place, f"'{path}' {what}{did_you_mean(similar_path(path, roots))}")
    for name, model in config.models.items():
        template = model.chat_template
        if template is None or template in BUILT_IN_TEMPLATES or is_inside(template, results):
            continue
        if not any(os.path.isfile(os.path.join(root, template)) for root in roots):
            known = sorted(BUILT_IN_TEMPLATES)
            near = did_you_mean(nearest(template, known) or similar_path(template, roots))
            message = f"'{template}' is neither built in ({', '.join(known)}) nor a file{near}"
            yield Conflict(("models", name, "chat_template"), message)


def blocked_folders(config: Any, root: Path | str) -> Iterator[Conflict]:
    """Yield folders of results, logs and benchmarks that can't be created because a file has their path."""
    for key, path in {"results": "results", **config.pathvars}.items():
        there = next((place for place in (Path(path), *Path(path).parents) if (Path(root) / place).exists()), None)
        if there is not None and not (Path(root) / there).is_dir():
            what = "is a file" if there == Path(path) else f"is below '{there}', which is a file"
            yield Conflict(("pathvars", key), f"'{path}' {what}, not a folder: choose another folder, or move the file")


def named_paths(config: Any) -> Iterator[tuple[tuple, str]]:
    """Yield the place in the configuration and the path of each file or folder that must exist."""
    for name, dataset in config.datasets.items():
        yield from ((("datasets", name, key), file) for key, file in dataset.named_files())
        if dataset.images is not None:
            yield ("datasets", name, "images"), dataset.images
    for name, model in config.models.items():
        if model.path is not None:
            yield ("models", name, "path"), model.path
        if model.gguf is not None and model.gguf.package is None:
            yield ("models", name, "gguf", "file"), model.gguf.file
    for name, run in config.runs.items():
        for key, prompts in run.prompt_sets.items():
            yield ("runs", name, "prompt_sets", key, "file"), prompts.file
        if run.score.metrics_from is not None:
            yield ("runs", name, "score", "metrics_from"), run.score.metrics_from
    for position, file in enumerate(config.monitor_logs):
        yield ("monitor_logs", position), file
    for name, image in config.environments.images.items():
        if "://" not in image:
            yield ("environments", "images", name), image


def site_of_file(config: Any, path: str) -> str | None:
    """Return the site whose records are a file, there or not yet; None if it is no site's."""
    files = {name: os.path.abspath(site.folder_of(name) / RECORDS) for name, site in config.sites.items()}
    return next((name for name, file in files.items() if file == os.path.abspath(path)), None)


def is_inside(path: str, folder: str) -> bool:
    """Return whether a path is a folder or inside that folder."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def similar_path(path: str, roots: Roots) -> str | None:
    """Return an existing path that is similar to a missing one: each of its parts is the same or similar."""
    for root in roots:
        found = ""
        for part in Path(path).parts:
            near = nearest(part, glob.glob("*", root_dir=os.path.join(root, found)))
            if near is None:
                break
            found = os.path.join(found, near)
        else:
            return found
    return None
