"""Input files of rules that no rule makes: those that the configuration names."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from snakemake.exceptions import WorkflowError

from scripts.common.plain_text import name_fault
from scripts.config.comparisons import compares_strategies, sweep_of
from scripts.config.paths import site_of_file
from scripts.config.sections import sections_of
from scripts.config.variants import answer_variants, shipped_variant
from scripts.deploy.read_files import FOLDERS, OPTIONAL, files_below, read_paths
from scripts.model.chat_templates import BUILT_IN, BUILT_IN_TEMPLATES
from scripts.model.model_files import is_taken
from scripts.tasks import TASKS
from scripts.workflow.prepare import Prepared

COLLECTING = ("httpx2", "playwright", "protego", "selectolax")
OFFLINE = "nothing is collected with 'offline: true'"


def files_of(prepared: Prepared, dataset: str, key: str) -> list[str]:
    """Return the files of a dataset's key, with globs expanded."""
    patterns = getattr(prepared.config.datasets[dataset], key) or []
    return [file for pattern in patterns for file in prepared.files(pattern)]


def raw_files(prepared: Prepared, dataset: str) -> list[str]:
    """Return a dataset's raw files, those of whole splits first, because the first of several duplicates is kept.

    Raises WorkflowError for records of a site that are not collected yet.
    """
    files = [file for key in ("test_files", "validation_files", "files") for file in files_of(prepared, dataset, key)]
    for file in files:
        if site_of_file(prepared.config, file) and not os.path.exists(file):
            raise WorkflowError(f"datasets.{dataset}: {file} is not collected yet: run `snakemake collect` first")
    return files


def ready_to_fetch(prepared: Prepared, site: str) -> list:
    """Return no file. Raises WorkflowError if pages of a site can't be fetched."""
    if prepared.config.offline:
        raise WorkflowError(OFFLINE)
    return ready_to_read(prepared)


def ready_to_read(prepared: Prepared) -> list:
    """Return no file. Raises WorkflowError if the steps that collect would run without their packages.

    They have no image: in a run in containers, they run with Snakemake's own Python.
    """
    missing = [name for name in COLLECTING if prepared.in_containers and not find_spec(name)]
    if missing:
        remedy = f"`{sys.executable} -m pip install -r envs/collect.lock`, or run it without containers"
        raise WorkflowError(f"collecting runs in no container, and here is no {', '.join(missing)}: {remedy}")
    return []


def saved_pages(prepared: Prepared, site: str) -> str:
    """Return the index of a site's saved pages. Raises WorkflowError if there is none, or without packages."""
    ready_to_read(prepared)
    index = os.path.join(prepared.config.sites[site].folder_of(site), "pages.jsonl")
    if not os.path.exists(index):
        raise WorkflowError(f"{index} is missing, so no page of '{site}' is saved: run `snakemake collect` first")
    return index


def image_files(prepared: Prepared, dataset: str) -> list[str]:
    """Return the files in the folder of a dataset's images, without names that Snakemake can't handle."""
    images = prepared.config.datasets[dataset].images
    below = os.walk(prepared.located(images)) if images else ()
    paths = [os.path.join(folder, name) for folder, _, names in below for name in names]
    return sorted(path for path in paths if not name_fault(path))


def corrections(prepared: Prepared, dataset: str) -> str | list:
    """Return the file with corrections of a dataset's records, if it has some."""
    path = prepared.config.datasets[dataset].corrections
    return prepared.located(path) if own_corrections(prepared, dataset) else []


def own_corrections(prepared: Prepared, dataset: str) -> list[str]:
    """Return the lines of the file of corrections that are of this dataset, or whose dataset can't be read."""
    path = prepared.config.datasets[dataset].corrections
    place = path and prepared.located(path)
    if not place or not os.path.exists(place):
        return []
    try:
        with open(place, encoding="utf-8", errors="backslashreplace") as file:
            return [line for line in file if is_correction_of(dataset, line)]
    except OSError as error:
        return [str(error)]  # the ingestion stops with it


def is_correction_of(dataset: str, line: str) -> bool:
    """Whether a line is a correction of this dataset, or a fault that stops every ingestion."""
    try:
        return json.loads(line)["dataset"] == dataset
    except (ValueError, LookupError, TypeError, RecursionError):
        return bool(line.strip())


def gguf_file(prepared: Prepared, model: str) -> str:
    """Return the GGUF file of a model: the one extracted from its package, or the configuration's path."""
    gguf = prepared.config.models[model].gguf
    return f"<results>/models/{model}.gguf" if gguf.package else prepared.located(gguf.file)


def chat_template(prepared: Prepared, model: str) -> list[str]:
    """Return the file of a model's chat template if the configuration names a file."""
    name = prepared.config.models[model].chat_template
    return [prepared.located(name)] if name and name not in BUILT_IN_TEMPLATES else []


def chat_template_option(prepared: Prepared, model: str) -> list:
    """Return the option for a model's chat template: a file, a built-in one, or a stand-in's by its architecture."""
    section = prepared.config.models[model]
    name = section.chat_template or (section.embedded and BUILT_IN[section.architecture])
    if name in BUILT_IN_TEMPLATES:
        return ["--chat-template", *prepared.own_file(f"scripts/model/templates/{name}.jinja")]
    return ["--chat-template", *chat_template(prepared, model)] if name else []


def model_folder(prepared: Prepared, model: str) -> str:
    """Return the folder of a local model."""
    return prepared.located(prepared.config.models[model].path)


def model_files(prepared: Prepared, model: str) -> list[str]:
    """Return the files of a local model's folder that the workflow uses; always includes config.json."""
    folder = model_folder(prepared, model)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    taken = {name for name in names if is_taken(name, prepared.config.models[model].trust_remote_code)}
    return [os.path.join(folder, name) for name in sorted({"config.json", *taken})]


def prompt_sets(prepared: Prepared, run: str) -> dict[str, str]:
    """Return the files of a run's prompt sets by name."""
    return {name: prepared.located(prompts.file) for name, prompts in prepared.config.runs[run].prompt_sets.items()}


def prompt_set_files(prepared: Prepared, run: str) -> list[str]:
    """Return the files of a run's prompt sets."""
    return list(prompt_sets(prepared, run).values())


def prompt_set_options(prepared: Prepared, run: str) -> list[str]:
    """Return the options for a run's prompt sets."""
    sets = prompt_sets(prepared, run)
    return [word for name, file in sets.items() for word in ("--prompt-set", f"{name}={file}")]


def shown_examples(prepared: Prepared, run: str) -> str | list:
    """Return the training split, if any strategy of the run shows examples of it."""
    section = prepared.config.runs[run]
    shots = any(strategy.shots for strategy in section.strategies.values())
    return f"<results>/datasets/{section.dataset}/train.jsonl" if shots else []


def shown_examples_of_test(prepared: Prepared, run: str) -> str | list:
    """Return the training split, if the strategy in which the test split is asked shows examples of it."""
    section = prepared.config.runs[run]
    has_shots = section.strategy is not None and section.strategies[section.strategy].shots
    return shown_examples(prepared, run) if has_shots else []


def shipped_model(prepared: Prepared, run: str) -> str:
    """Return the model in a run's bundle: a GGUF file, or the manifest of a token classifier."""
    section = prepared.config.runs[run]
    made = "merged/manifest.json" if TASKS[section.task].classifies else f"gguf/{shipped_variant(section)}.gguf"
    return f"<results>/runs/{prepared.trained_by[run]}/{made}"


def shipped_answers(prepared: Prepared, run: str) -> str:
    """Return the file with the answers of what a run ships."""
    return f"<results>/runs/{run}/answers/{shipped_variant(prepared.config.runs[run])}.jsonl"


def validation_result(prepared: Prepared, run: str, kind: str) -> str:
    """Return the file with answers or scores (`answers.jsonl`, `scores.json`) of what a run ships, on validation."""
    folder, end = os.path.splitext(kind)
    return f"<results>/runs/{run}/validation/{folder}/{shipped_variant(prepared.config.runs[run])}{end}"


def strategy_scores(prepared: Prepared, run: str) -> str | list:
    """Return the file with the scores of a run's strategies, if it compares some."""
    return validation_result(prepared, run, "scores.json") if compares_strategies(prepared.config.runs[run]) else []


def strategy_answers(prepared: Prepared, run: str) -> str | list:
    """Return the file with the answers under a run's strategies, if it compares some."""
    return validation_result(prepared, run, "answers.jsonl") if compares_strategies(prepared.config.runs[run]) else []


def votes(prepared: Prepared, run: str) -> str | list:
    """Return the file of people's votes on a run's answers, if it exists: people vote when there are answers."""
    path = prepared.config.runs[run].score.votes
    return prepared.located(path) if path and os.path.isfile(prepared.located(path)) else []


def rival_answers(prepared: Prepared, run: str) -> str | list:
    """Return the answers with which votes compare those of a run, if there are votes and the rival is scored."""
    other, variant = f"{run}/{prepared.config.runs[run].score.rival}".split("/")[-2:]
    is_scored = variant in answer_variants(prepared.config.runs[other])
    return f"<results>/runs/{other}/answers/{variant}.jsonl" if is_scored and votes(prepared, run) else []


def sweep_scores(prepared: Prepared, sweep: str) -> list[str]:
    """Return the files with the scores of a sweep's runs on the validation split."""
    return [validation_result(prepared, run, "scores.json") for run in prepared.config.sweeps[sweep]]


def sweep_trainings(prepared: Prepared, sweep: str) -> list[str]:
    """Return the files with the facts of the trainings of a sweep's runs."""
    runs = prepared.config.runs
    trained = {prepared.trained_by[run] for run in prepared.config.sweeps[sweep] if runs[run].method != "prompt"}
    return [f"<results>/runs/{run}/training.json" for run in sorted(trained)]


def choice(prepared: Prepared, run: str) -> str | list:
    """Return the file with the choice among the runs of a run's sweep, if it belongs to one."""
    name = sweep_of(prepared.config, run)
    return f"<results>/sweeps/{name}/choice.json" if name else []


def files_read(prepared: Prepared, run: str) -> list[str]:
    """Return the files that a run reads, except raw data and model weights."""
    config, files = prepared.config, []
    with_code = config.models[config.runs[run].model].trust_remote_code
    for key, path in read_paths(sections_of(config, run)).items():
        place = prepared.located(path)
        if key in OPTIONAL and not os.path.exists(place):
            continue
        files += sorted(map(str, files_below(key, Path(place), with_code))) if key in FOLDERS else [place]
    return files


def monitor_logs(prepared: Prepared) -> list[str]:
    """Return the logs of the bundles' monitors that the configuration names."""
    return [prepared.located(file) for file in prepared.config.monitor_logs]
