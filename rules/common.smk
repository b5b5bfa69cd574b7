"""Functions of wildcards that all stages share. Functions of the configuration alone are in scripts/workflow.

Requires: the configuration. Makes: nothing itself.
"""

import json
import os
import re

from snakemake.exceptions import WorkflowError

from scripts.config.runs import QUANTS, VARIANTS
from scripts.config.variants import answer_variants, gguf_quants
from scripts.tasks import TASKS
from scripts.workflow import input_files, settings
from scripts.workflow.one_of import one_of
from scripts.workflow.prepare import Recorded, prepare, show_summary
from scripts.workflow.stop_jobs import stop_jobs_on_signals

PREPARED = prepare(workflow, FOLDER)
CONFIG, code, conda_file, image = PREPARED.config, PREPARED.script, PREPARED.conda_file, PREPARED.images.get
# Failed downloads are retried, except with `offline: true`.
DOWNLOAD_RETRIES = 0 if CONFIG.offline else 2


wildcard_constraints:
    dataset=one_of(CONFIG.datasets),
    model=one_of(CONFIG.models),
    site=one_of(CONFIG.sites),
    run=one_of(CONFIG.runs),
    sweep=one_of(CONFIG.sweeps),
    variant=one_of(VARIANTS),


def models_from(source):
    """Return the names of the models from a source: hub, path, gguf or embedded."""
    return [name for name, model in CONFIG.models.items() if getattr(model, source) is not None]


def runs_where(attribute):
    """Return the names of the runs whose task has an attribute of scripts/tasks, such as `classifies`."""
    return [name for name, run in CONFIG.runs.items() if getattr(TASKS[run.task], attribute)]


def generating_runs(*methods):
    """Return the names of the runs that generate text, with one of these methods."""
    runs = CONFIG.runs.items()
    return [name for name, run in runs if run.method in methods and not TASKS[run.task].classifies]


def name_of(kind, wildcards):
    """Return the name of the wildcards' `run`, its `dataset`, its `model`, or the run that trains it (`trained_by`).

    If the wildcards name only a dataset, the run is the one that redacts it.
    """
    if name := wildcards.get(kind):
        return name
    run = wildcards.get("run") or CONFIG.datasets[wildcards.dataset].redact.run
    names = {"run": run, "trained_by": PREPARED.trained_by[run]}
    return names.get(kind) or getattr(CONFIG.runs[run], kind)


def section(kind, wildcards):
    """Return the section of the wildcards' run, or of its dataset or model."""
    return getattr(CONFIG, f"{kind}s")[name_of(kind, wildcards)]


def of(kind, function):
    """Return an input function that applies `function` to the wildcards' run, or to its dataset or model."""

    def found(wildcards):
        return function(PREPARED, name_of(kind, wildcards))

    return found


def path_of(pattern):
    """Return an input function that fills in the names of the wildcards' run in a path, such as {dataset}."""
    kinds = re.findall(r"{(\w+)}", pattern)

    def path(wildcards):
        return pattern.format(**{kind: name_of(kind, wildcards) for kind in kinds})

    return path


def settings_of(*functions, **sections):
    """Return a function for `params` that gives settings as JSON.

    `run="seed tokens.packing"` selects these keys of the wildcards' run; `functions` return further settings.
    """

    def text(wildcards):
        values = {}
        for kind, keys in sections.items():
            values |= settings.chosen(section(kind, wildcards), keys)
        for function in functions:
            values |= function(wildcards)
        return settings.as_json(values)

    return text


def without_trackers(function):
    """Return a function for `params` as `settings_of`, of which Snakemake records the settings without trackers."""

    def text(wildcards):
        words = function(wildcards)
        values = json.loads(words)
        values["training"]["report_to"] = []
        return Recorded(words, settings.as_json(values))

    return text


def reported(path, caption, category, **labels):
    """Return an output that Snakemake's report shows, with the caption docs/report/<caption>.rst."""
    return report(path, caption=f"../docs/report/{caption}.rst", category=category, labels=labels)


def options(*keys, **names):
    """Return a function for `params`: `--key path` for each of these inputs that is there; `names` rename options."""
    names = dict(zip(keys, keys)) | names

    def words(wildcards, input):
        return [word for key, name in names.items() if input.get(key) for word in (f"--{name}", input[key])]

    return words


def images_option(wildcards, input):
    """Return the option with the dataset's result folder for the manifest in its folder `images`, if there is one."""
    return ["--images", os.path.dirname(os.path.dirname(input.images))] if input.get("images") else []


def is_redacted(wildcards):
    """Return whether personal data is replaced in the dataset."""
    return section("dataset", wildcards).redact


def is_trained(wildcards):
    """Return whether the run trains a model."""
    return section("run", wildcards).method != "prompt"


def task_where(attribute):
    """Return a function of wildcards: whether the run's task has an attribute, such as `reads_images`."""

    def found(wildcards):
        return getattr(TASKS[section("run", wildcards).task], attribute)

    return found


def leaderboard(wildcards):
    """Return the settings of all runs that the leaderboard shows."""
    return settings.leaderboard(PREPARED)


base_manifest = path_of("<results>/models/{model}/manifest.json")
merged_manifest = path_of("<results>/runs/{trained_by}/merged/manifest.json")
images_of_run = branch(task_where("reads_images"), then=path_of("<results>/datasets/{dataset}/images/manifest.json"))
mmproj_of_run = branch(task_where("reads_images"), then=path_of("<results>/runs/{trained_by}/gguf/mmproj.gguf"))
shown_examples = of("run", input_files.shown_examples)


def scored_files(pattern):
    """Return an input function that gives a file for each scored variant of the run."""

    def files(wildcards):
        return collect(pattern, run=wildcards.run, variant=answer_variants(section("run", wildcards)))

    return files


def result_of_runs(path, runs, none):
    """Return an input function that gives a file of each of these runs; it stops with a message if there are none."""
    return result_of_each(path, "run", runs, none)


def result_of_each(path, kind, names, none):
    """Return an input function that gives a file for each name of a wildcard; it stops with a message without any."""

    def files(wildcards):
        if not names:
            raise WorkflowError(none)
        return collect(path, **{kind: list(names)})

    return files


def types_of_quants(wildcards):
    """Return the files with the tensor types of a run's quantized GGUF files."""
    quants = [quant for quant in gguf_quants(section("run", wildcards)) if quant != "bf16"]
    return collect(
        "<results>/runs/{trained_by}/gguf/{quant}.types.json",
        trained_by=PREPARED.trained_by[wildcards.run],
        quant=quants,
    )


def scored_gguf_files(wildcards):
    """Return a run's GGUF files that answer the prompts."""
    run = section("run", wildcards)
    quants = [quant for quant in gguf_quants(run) if quant in answer_variants(run)]
    return collect(
        "<results>/runs/{trained_by}/gguf/{quant}.gguf", trained_by=PREPARED.trained_by[wildcards.run], quant=quants
    )


def gpus_of_run(wildcards):
    """Return 0 for a run's model on the CPU, else 1: the number of GPUs for steps with it."""
    return 0 if section("model", wildcards).on_cpu else 1


# One thread for a model on the CPU, so that several such jobs run in parallel.
prediction_threads = branch(gpus_of_run, then=8, otherwise=1)


def dataset_threads(wildcards):
    """Return the CPU threads that read a dataset's records: two for raw files above 10 MiB or on the hub, else one."""
    files = input_files.raw_files(PREPARED, name_of("dataset", wildcards))
    large = sum(os.path.getsize(file) for file in files if os.path.isfile(file)) > 10 * 2**20
    return 2 if large or section("dataset", wildcards).hub else 1


def quantization_threads(wildcards):
    """Return the CPU threads of a quantization: half of the machine's, shared by the run's quants; 4 on a cluster.

    One that asks for all would wait until all other jobs have ended.
    """
    cores, quants = workflow.resource_settings.cores, gguf_quants(section("run", wildcards))
    return max(1, cores // 2 // (len(quants) - 1)) if cores else 4


def gpus_of_training(wildcards):
    """Return the number of GPUs of a training on this machine; on several nodes Slurm assigns them (`gres`)."""
    training = section("run", wildcards).training
    return gpus_of_run(wildcards) * training.processes if training.nodes == 1 else 0


def gres_of_training(wildcards):
    """Return the GPUs on each node for a training on several nodes, in Slurm's format."""
    training = section("run", wildcards).training
    return f"gpu:{training.processes}" if training.nodes > 1 and gpus_of_run(wildcards) else None


def on_several_nodes(value=None):
    """Return a function for `resources`: `value`, or the number of nodes, for a training on several nodes; else None.

    The plugin for Slurm starts a job with the resource `mpi` only once; the job itself starts its tasks with srun.
    """

    def resource(wildcards):
        nodes = section("run", wildcards).training.nodes
        return (nodes if value is None else value) if nodes > 1 else None

    return resource


def training_threads(wildcards):
    """Return the CPU threads of a training on each node: two per process with a GPU, else one, but at least two."""
    processes = section("run", wildcards).training.processes
    return 2 * processes if gpus_of_run(wildcards) else max(2, processes)


def training_mb(wildcards, attempt):
    """Return the main memory in MB of a training job on each node, multiplied by the attempt."""
    processes = section("run", wildcards).training.processes
    return (48000 if gpus_of_run(wildcards) else 5000) * processes * attempt


def llama_mb(wildcards, attempt):
    """Return the main memory in MB of a prediction with llama.cpp: its batches have a cache of 1 GiB."""
    return training_mb(wildcards, attempt) + 1000 * attempt


def megabytes(count):
    """Return a function for `mem_mb`: `count` MB multiplied by the attempt."""

    def mb(wildcards, attempt):
        return count * attempt

    return mb


def every_result(wildcards):
    """Return the default targets: ledgers; curve, report and bundle of each run; the leaderboard."""
    made = [f"<results>/datasets/{name}/ledger.html" for name in CONFIG.datasets]
    for name, run in CONFIG.runs.items():
        made.append(f"<results>/runs/{name}/report.html")
        if CONFIG.datasets[run.dataset].format == "spans":
            made += [f"<results>/runs/{name}/confusion/{variant}.svg" for variant in answer_variants(run)]
        if run.training.report_to:
            made.append(f"<results>/runs/{name}/tracked.json")
        if run.method != "prompt":
            made += [
                f"<results>/runs/{PREPARED.trained_by[name]}/curve.svg",
                f"<results>/runs/{name}/bundle/SHA256SUMS",
            ]
    return [*made, "<results>/leaderboard.csv", "<results>/leaderboard.html"]
