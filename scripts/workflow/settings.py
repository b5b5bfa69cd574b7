"""Settings of the steps, from the configuration. A step runs again when its settings change."""

import json
from typing import Any

from scripts.common.files import canonical_sha256, sha256_of
from scripts.config.runs import Run
from scripts.config.sections import gates_of, sections_of
from scripts.config.types import Section
from scripts.config.variants import answer_variants, shipped_variant
from scripts.workflow.input_files import files_of, monitor_logs, own_corrections
from scripts.workflow.prepare import Prepared


def as_json(settings: Any) -> str:
    """Return settings as JSON with sorted keys."""
    return json.dumps(settings, ensure_ascii=False, sort_keys=True)


def chosen(section: Section, keys: str) -> dict:
    """Return some keys of a section. `keys` are separated by spaces; `a.b` selects only b of the section a."""
    include: dict[str, Any] = {}
    for key in keys.split():
        head, _, tail = key.partition(".")
        include[head] = {*include.get(head, ()), tail} if tail else True
    return section.model_dump(mode="json", include=include)


def site(prepared: Prepared, name: str) -> str:
    """Return the section of a site as JSON, for the steps that collect."""
    return as_json(prepared.config.sites[name].model_dump(mode="json", exclude_unset=True))


def images(prepared: Prepared, dataset: str) -> dict:
    """Return the folder of a dataset's images."""
    folder = prepared.config.datasets[dataset].images
    return {"images": folder and prepared.located(folder)}


def corrections(prepared: Prepared, dataset: str) -> dict:
    """Return the SHA-256 of a dataset's own corrections; other datasets may share the file."""
    lines = own_corrections(prepared, dataset)
    return {"corrections_sha256": canonical_sha256(lines)} if lines else {}


def whole_files(prepared: Prepared, dataset: str) -> dict:
    """Return the files that are whole splits, by split."""
    return {"whole_files": {split: files_of(prepared, dataset, f"{split}_files") for split in ("validation", "test")}}


def gguf(prepared: Prepared, run: str) -> dict:
    """Return the settings in the metadata of a run's GGUF files."""
    config, section = prepared.config, prepared.config.runs[run]
    deploy = chosen(section.deploy, "description parameters")
    del deploy["parameters"]["num_ctx"]
    return {
        "run": run,
        "model_key": section.model,
        "dataset_key": section.dataset,
        "project": config.project.model_dump(mode="json"),
        "model": chosen(config.models[section.model], "name license hub path gguf"),
        "dataset": chosen(config.datasets[section.dataset], "hub language"),
        "deploy": deploy,
    }


def score(prepared: Prepared, run: str) -> dict:
    """Return the section `score` of a run, with the SHA-256 of the file `metrics_from`."""
    values = prepared.config.runs[run].score.model_dump(mode="json")
    if values["metrics_from"]:
        path = prepared.located(values["metrics_from"])
        values |= {"metrics_from": path, "metrics_from_sha256": sha256_of(path)}
    return {"score": values}


def verdict(prepared: Prepared, run: str) -> dict:
    """Return the settings of a run's verdict: its gates, the shipped variant, the bootstrap, and the groups' column."""
    section = prepared.config.runs[run]
    dataset = {"dataset": section.dataset, "group_by": prepared.config.datasets[section.dataset].group_by}
    values = {"gates": gates_of(prepared.config, run), "shipped": shipped_variant(section), **dataset}
    return {**values, **chosen(section.score, "bootstrap seed")}


def chosen_strategy(prepared: Prepared, run: str) -> dict:
    """Return the strategy in which the test split is asked, without the others that a run compares."""
    facts = chosen(prepared.config.runs[run], "strategies strategy")
    return {
        **facts,
        "strategies": {name: each for name, each in facts["strategies"].items() if name == facts["strategy"]},
    }


def sweep(prepared: Prepared, name: str) -> dict:
    """Return the settings of the choice among a sweep's runs, and the metric that decides.

    Of each run it has the shipped variant, and the run that trained its model (None: the method `prompt`).
    """
    runs, makers = prepared.config.runs, prepared.trained_by
    names = prepared.config.sweeps[name]
    listed = {
        run: {
            "variant": shipped_variant(runs[run]),
            "trained_by": None if runs[run].method == "prompt" else makers[run],
        }
        for run in names
    }
    return {"runs": listed, "select": runs[names[0]].select}


def report(prepared: Prepared, run: str) -> dict:
    """Return the settings that a run's report shows."""
    section = prepared.config.runs[run]
    facts = chosen(section, "dataset model task method strategy") | chosen(section.score, "price_per_hour")
    return {"run": run, "strategies": list(section.strategies), **facts}


def leaderboard(prepared: Prepared) -> dict:
    """Return the settings of all runs that the leaderboard shows, and the groups that differ only in their seed."""
    runs = prepared.config.runs
    shown = [report(prepared, run) | {"variants": answer_variants(runs[run])} for run in runs]
    sweeps, monitors = list(prepared.config.sweeps), monitor_logs(prepared)
    return {"runs": shown, "seeds": seed_groups(runs), "sweeps": sweeps, "monitors": monitors}


def seed_groups(runs: dict[str, Run]) -> list[list[str]]:
    """Return the names of runs that differ only in `seed`, such as those of a sweep over it, in groups of two or more.

    A sweep over the seed and further keys makes several groups.
    """
    groups: dict[str, list[str]] = {}
    for name, run in runs.items():
        groups.setdefault(run.model_dump_json(exclude={"seed"}), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def bundle(prepared: Prepared, run: str) -> dict:
    """Return all settings of a run, its model and its dataset."""
    return sections_of(prepared.config, run)


def tracked(prepared: Prepared, run: str) -> dict:
    """Return the settings of a run that its trackers show, with the trackers."""
    settings = sections_of(prepared.config, run)["run"]
    settings["training"]["report_to"] = prepared.config.runs[run].training.report_to
    return {"run_key": run, "run": settings}


def target(prepared: Prepared, run: str) -> list:
    """Return the target of a run's bundle, with the options of the delivery."""
    section = prepared.config.runs[run].deploy.target
    force = ["--force", section.force] if section.force else []
    public = ["--public"] if section.public else []
    return [section.folder, "--keep", section.keep, *(["--beside"] if section.beside else []), *force, *public]


def soak(prepared: Prepared, run: str) -> list:
    """Return the options of the match that is played with a run's bundle."""
    section = prepared.config.runs[run]
    values = {**section.deploy.soak.model_dump(), "max_tokens": section.generation.max_new_tokens}
    return [word for key, value in values.items() for word in (f"--{key.replace('_', '-')}", value)]
