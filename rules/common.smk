"""What the other rule files share, and the only place for functions.

Requires: the configuration. Makes: nothing itself.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from snakemake.logging import logger as snakemake_logger
from snakemake.pathvars import Pathvars

from scripts.common.config import ConfigError, load_config
from scripts.common.config.environments import RUN_BY_RULES
from scripts.common.config.paths import files_at
from scripts.common.config.runs import QUANTS
from scripts.common.config.sections import gates_of, sections_of
from scripts.common.config.variants import answer_variants, gguf_quants, makers, shipped_variant
from scripts.common.container_settings import bound_arguments, host_folders, passed_variables, paths_of, places_outside
from scripts.common.errors import UserError
from scripts.common.files import sha256_of
from scripts.common.folder_lock import OWNER, one_workflow_at_a_time
from scripts.common.hidden_secrets import HideSecrets
from scripts.common.images import built_image, lacking, lock_name
from scripts.common.lost_outputs import remake_lost_outputs
from scripts.common.memory.report import memory_lines
from scripts.common.offline import ENVIRONMENT as OFFLINE_ENVIRONMENT
from scripts.common.path_names import name_fault
from scripts.common.stop_jobs import stop_jobs_on_signals
from scripts.deploy.read_files import FOLDERS, files_below, read_paths
from scripts.model.chat_templates import BUILT_IN, BUILT_IN_TEMPLATES
from scripts.model.model_files import is_taken
from scripts.workflow.code_digest import step_code

# `--verbose` would write a Slurm job's whole environment into its log.
snakemake_logger.addFilter(HideSecrets())

# Where a path of the configuration is looked for: in the working directory, then in the workflow's folder.
ROOTS = (os.curdir, workflow.basedir)

# The files of the configuration, a later one over those before it: `--configfile` wins over the Snakefile's default.
NAMED = [str(path) for path in workflow.overwrite_configfiles]
CONFIG_FILES = [str(path) for path in workflow.configfiles if str(path) not in NAMED] + NAMED

try:
    CONFIG = load_config(config, CONFIG_FILES, ROOTS, dict(workflow.config_settings.config))
except ConfigError as error:
    raise WorkflowError(*error.lines) from None

# The override of a configuration has its results in a folder below.
workflow.pathvars.update(Pathvars.from_config({"pathvars": CONFIG.pathvars}))

DEPLOYMENT = {str(method) for method in workflow.deployment_settings.deployment_method}
IN_CONTAINERS = "apptainer" in DEPLOYMENT
# Inside of a container the working directory is HOME; what libraries put there goes beside Snakemake's own files.
HOME = os.path.abspath(os.path.join(".snakemake", "home"))
# What the user gave by --apptainer-args, for a cluster's jobs.
USERS_ARGUMENTS = "SNAKETUNE_APPTAINER_ARGS"

# Steps import from this folder and from nothing of the user's own site-packages; without --sdm they run in the
# environment of this Snakemake. Threads that wait sleep: spinning ones slow down every job that shares their cores. The
# images of many notebooks forbid bytecode, without which each step compiles torch's 2,000 modules again: 5 to 10 s.
BIN = os.path.dirname(sys.executable)
OWN_PATH = "" if DEPLOYMENT else f"PATH={shlex.quote(BIN)}:$PATH"
OWN_HOME = f"HOME={shlex.quote(HOME)}" if IN_CONTAINERS else ""
NO_NETWORK = " ".join(f"{name}={value}" for name, value in OFFLINE_ENVIRONMENT.items()) if CONFIG.offline else ""
shell.prefix(
    "unset PYTHONHOME PYTHONINSPECT PYTHONDONTWRITEBYTECODE; "
    f"export PYTHONPATH={shlex.quote(workflow.basedir)} PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1 OMP_WAIT_POLICY=PASSIVE "
    f"{NO_NETWORK} {OWN_PATH} {OWN_HOME}; "
)
# A download that breaks off is tried again; without a network there is nothing to try.
DOWNLOAD_RETRIES = 0 if CONFIG.offline else 2

# Where a cluster's jobs, which inherit it, find the files of their profile.
os.environ.update(SNAKETUNE_FOLDER=str(workflow.basedir))

remake_lost_outputs()

# A run that was killed leaves no lock for a person to remove. Jobs of a cluster's nodes are not this process's own.
one_workflow_at_a_time()
if workflow.remote_exec:
    os.environ.pop(OWNER, None)

STARTED = time.time()
# For each run the run that makes its model: runs that differ only in how they answer share one.
MAKERS = makers(CONFIG.runs)
CLASSIFYING = [name for name, run in CONFIG.runs.items() if run.task == "token_classification"]
SEEING = [name for name, run in CONFIG.runs.items() if run.task == "vision"]


# Snakemake says whether it is a dry run only after the rules are read.
DRY_RUN = any(re.fullmatch(r"-[a-zA-Z]*n[a-zA-Z]*|--dry-?run", word) for word in sys.argv)


def one_of(names):
    """Return the regular expression that matches these names and nothing else."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def code(script):
    """Return the path of a script, and what runs its step again when it changes."""
    path = os.path.join(workflow.basedir, "scripts", script)
    return [os.path.relpath(path), step_code(path)]


def located(path):
    """Return a path of the configuration: relative to the working directory, else to the workflow's folder."""
    beside_workflow = workflow_file(path)
    return path if os.path.exists(path) or not os.path.exists(beside_workflow) else beside_workflow


def settings_json(section, keys):
    """Return these keys of a section of the configuration as canonical JSON; `a.b` takes b alone of the section a."""
    chosen = {}
    for key in keys:
        head, _, tail = key.partition(".")
        chosen[head] = {*chosen.get(head, ()), tail} if tail else True
    values = section.model_dump(mode="json", include=chosen)
    return json.dumps(values, ensure_ascii=False, sort_keys=True)


def model_settings(*keys):
    """Return an input function for `params`: these keys of the wildcard's model, as JSON."""

    def settings(wildcards):
        return settings_json(CONFIG.models[wildcards.model], keys)

    return settings


def run_settings(*keys):
    """Return an input function for `params`: these keys of the wildcard's run, as JSON."""

    def settings(wildcards):
        return settings_json(CONFIG.runs[wildcards.run], keys)

    return settings


def raw_files(wildcards):
    """Return the raw files of the wildcard's dataset."""
    return raw_files_of(wildcards.dataset)


def raw_files_of_run(wildcards):
    """Return the raw files of a run's dataset."""
    return raw_files_of(dataset_of(wildcards))


def raw_files_of(dataset):
    """Return a dataset's raw files, those of whole splits first: of two that are alike, the first record stays."""
    section = CONFIG.datasets[dataset]
    return [file for key in ("test_files", "validation_files", "files") for file in files_of(section, key)]


def files_of(section, key):
    """Return the files of a dataset's key, globs expanded; one that isn't there is for another rule to make."""
    return [found for pattern in getattr(section, key) or [] for found in files_at(pattern, ROOTS) or [pattern]]


def image_files(wildcards):
    """Return the files in the folder of a dataset's images; Snakemake can't watch one with an odd name."""
    images = CONFIG.datasets[wildcards.dataset].images
    if images is None:
        return []
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(located(images)) for name in names]
    return sorted(path for path in paths if not name_fault(path))


def ingest_settings(wildcards):
    """Return what the records of a dataset depend on, as JSON."""
    section = CONFIG.datasets[wildcards.dataset]
    keys = {
        "hub", "format", "fields", "columns", "system", "label", "label_map", "span_label_map", "group_by",
        "strip_span_label_numbers", "min_characters", "max_characters", "checks", "on_bad_record", "images",
        "max_records",
    }  # fmt: skip
    settings = section.model_dump(mode="json", include=keys)
    settings["images"] = section.images and located(section.images)
    return json.dumps(settings, ensure_ascii=False, sort_keys=True)


def split_settings(wildcards):
    """Return what the splits of a dataset depend on, as JSON."""
    section = CONFIG.datasets[wildcards.dataset]
    settings = section.model_dump(mode="json", include={"deduplicate", "splits", "stratify", "augment"})
    whole = {split: files_of(section, f"{split}_files") for split in ("validation", "test")}
    return json.dumps({**settings, "whole_files": whole}, ensure_ascii=False, sort_keys=True)


def records_to_split(wildcards):
    """Return a dataset's records, after redaction where the configuration asks for it."""
    stage = "redacted" if CONFIG.datasets[wildcards.dataset].redact else "ingested"
    return f"<results>/datasets/{wildcards.dataset}/{stage}.parquet"


def redacting_run(wildcards):
    """Return the run whose classifier finds the personal data of a dataset."""
    return CONFIG.datasets[wildcards.dataset].redact.run


def redacting_model(wildcards):
    """Return the manifest of the classifier that finds the personal data of a dataset."""
    return f"<results>/runs/{MAKERS[redacting_run(wildcards)]}/merged/manifest.json"


def redaction_settings(wildcards):
    """Return what the redaction of a dataset depends on, as JSON."""
    run = CONFIG.runs[redacting_run(wildcards)]
    settings = {
        "redact": CONFIG.datasets[wildcards.dataset].redact.model_dump(mode="json"),
        "tokens": run.tokens.model_dump(mode="json"),
        "training": {"precision": run.training.precision},
        "generation": run.generation.model_dump(mode="json", include={"batch_size", "load_in_4bit"}),
    }
    return json.dumps(settings, ensure_ascii=False, sort_keys=True)


def redaction_facts(wildcards):
    """Return the file of facts on a dataset's redaction, where there is one."""
    redacted = CONFIG.datasets[wildcards.dataset].redact
    return f"<results>/datasets/{wildcards.dataset}/redaction.json" if redacted else []


def dataset_of(wildcards):
    """Return the name of a run's dataset."""
    return CONFIG.runs[wildcards.run].dataset


def model_of(wildcards):
    """Return the name of a run's base model."""
    return CONFIG.runs[wildcards.run].model


def dataset_file(name):
    """Return an input function: this file of the run's dataset."""

    def path(wildcards):
        return f"<results>/datasets/{dataset_of(wildcards)}/{name}"

    return path


def redaction_of_run(wildcards):
    """Return the file of facts on the redaction of a run's dataset, where it is redacted."""
    name = dataset_of(wildcards)
    return f"<results>/datasets/{name}/redaction.json" if CONFIG.datasets[name].redact else []


def of_maker(name):
    """Return an input function: this file of the run whose model the wildcard's run answers with."""

    def path(wildcards):
        return f"<results>/runs/{MAKERS[wildcards.run]}/{name}".replace("{variant}", str(wildcards.get("variant")))

    return path


def option(name, key):
    """Return a function for `params`: the option that names an input, where there is one."""

    def words(wildcards, input):
        value = input.get(key)
        return [name, str(value)] if value else []

    return words


def images_of_run(wildcards):
    """Return the manifest of the images that a run sees, where it sees any."""
    seeing = wildcards.run in SEEING
    return f"<results>/datasets/{dataset_of(wildcards)}/images/manifest.json" if seeing else []


def images_option(wildcards, input):
    """Return the option that names the folder in which records find their images, where there are any."""
    return ["--images", os.path.dirname(os.path.dirname(input.images))] if input.images else []


def mmproj_of_run(wildcards):
    """Return the GGUF file of a run's vision tower, where it has one."""
    return f"<results>/runs/{MAKERS[wildcards.run]}/gguf/mmproj.gguf" if wildcards.run in SEEING else []


def shown_examples(wildcards):
    """Return the training split, if a strategy of the run shows examples of it."""
    shots = any(strategy.shots for strategy in CONFIG.runs[wildcards.run].strategies.values())
    return f"<results>/datasets/{dataset_of(wildcards)}/train.jsonl" if shots else []


def models_from(source):
    """Return the names of the models from this source: hub, path, gguf or embedded."""
    return [name for name, model in CONFIG.models.items() if getattr(model, source) is not None]


def models_in_packages():
    """Return the names of the models where the GGUF file is in a package of the Python registry."""
    return [name for name in models_from("gguf") if CONFIG.models[name].gguf.package]


def gguf_of_model(wildcards):
    """Return the GGUF file of a model: what is taken out of its package, or the path that the configuration names."""
    gguf = CONFIG.models[wildcards.model].gguf
    return f"<results>/models/{wildcards.model}.gguf" if gguf.package else located(gguf.file)


def chat_template_file(wildcards):
    """Return the file of the chat template that the configuration gives a model, or that an embedded model has."""
    model = CONFIG.models[wildcards.model]
    name = model.chat_template or (model.embedded and BUILT_IN[model.architecture])
    if not name:
        return []
    return workflow_file(f"scripts/model/templates/{name}.jinja") if name in BUILT_IN_TEMPLATES else located(name)


def chat_template_option(wildcards, input):
    """Return the option that names the chat template, where there is one."""
    return ["--chat-template", str(input.chat_template)] if input.chat_template else []


def local_model_folder(wildcards):
    """Return the folder of a local model."""
    return located(CONFIG.models[wildcards.model].path)


def local_model_files(wildcards):
    """Return the files of a local model's folder that are taken; its config.json must be there."""
    folder = local_model_folder(wildcards)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    taken = [name for name in names if is_taken(name, CONFIG.models[wildcards.model].trust_remote_code)]
    return [os.path.join(folder, name) for name in sorted({"config.json", *taken})]


def base_manifest(wildcards):
    """Return the manifest of the run's base model."""
    return f"<results>/models/{model_of(wildcards)}/manifest.json"


def workflow_file(path):
    """Return a file of the workflow's own folder, relative to the working directory."""
    return os.path.relpath(os.path.join(workflow.basedir, path))


def gguf_settings(wildcards):
    """Return what the metadata of a run's GGUF files is made of, as JSON."""
    run = CONFIG.runs[wildcards.run]
    parts = {
        "run": wildcards.run,
        "model_key": run.model,
        "dataset_key": run.dataset,
        "project": CONFIG.project.model_dump(mode="json"),
        "model": CONFIG.models[run.model].model_dump(mode="json", include={"name", "license", "hub", "path", "gguf"}),
        "dataset": CONFIG.datasets[run.dataset].model_dump(mode="json", include={"hub", "language"}),
        "deploy": {
            "description": run.deploy.description,
            "parameters": run.deploy.parameters.model_dump(exclude={"num_ctx"}),
        },
    }
    return json.dumps(parts, ensure_ascii=False, sort_keys=True)


def types_of_quants(wildcards):
    """Return the files that say which types the tensors of a run's quantized GGUF files have."""
    quants = [quant for quant in gguf_quants(CONFIG.runs[wildcards.run]) if quant != "bf16"]
    return [f"<results>/runs/{MAKERS[wildcards.run]}/gguf/{quant}.types.json" for quant in quants]


def shipped_model(wildcards):
    """Return what goes into a run's bundle: a GGUF file, or the manifest of a token classifier."""
    shipped = f"gguf/{shipped_variant(CONFIG.runs[wildcards.run])}.gguf"
    made = "merged/manifest.json" if wildcards.run in CLASSIFYING else shipped
    return f"<results>/runs/{MAKERS[wildcards.run]}/{made}"


def parity_of_run(wildcards):
    """Return the parity report of a run that has GGUF files."""
    return [] if wildcards.run in CLASSIFYING else f"<results>/runs/{wildcards.run}/parity.json"


def bundle_settings(wildcards):
    """Return all that the configuration says of a run, its model and its dataset, as JSON."""
    return json.dumps(sections_of(CONFIG, wildcards.run), ensure_ascii=False, sort_keys=True)


def config_files(wildcards):
    """Return the names of the configuration's files: relative to the working directory or the workflow's folder."""
    names = []
    for path in map(os.path.abspath, CONFIG_FILES):
        inside = [os.path.relpath(path, root) for root in (os.curdir, workflow.basedir)]
        names.append(next((name for name in inside if not name.startswith(os.pardir)), os.path.basename(path)))
    return names


def files_read(wildcards):
    """Return the files that a run reads beside its raw data, without those of the model's weights."""
    with_code, files = CONFIG.models[model_of(wildcards)].trust_remote_code, []
    for key, path in read_paths(sections_of(CONFIG, wildcards.run)).items():
        below = files_below(key, Path(located(path)), with_code)
        files += sorted(map(str, below)) if key in FOLDERS else [located(path)]
    return files


def benchmarks_folder(wildcards):
    """Return the folder of the benchmark files."""
    return workflow.pathvars.apply("<benchmarks>")


def generating_runs(*methods):
    """Return the names of the runs that generate text, with one of these methods."""
    return [name for name, run in CONFIG.runs.items() if run.method in methods and name not in CLASSIFYING]


def gpus_of_run(wildcards):
    """Return how many GPUs the steps of a run's model ask for: none for a small model that is on the CPU."""
    return 0 if CONFIG.models[model_of(wildcards)].on_cpu else 1


def gpus_of_training(wildcards):
    """Return how many GPUs a training wants on this machine; on several nodes Slurm gives each its own (`gres`)."""
    training = CONFIG.runs[wildcards.run].training
    return gpus_of_run(wildcards) * training.processes if training.nodes == 1 else 0


def gres_of_training(wildcards):
    """Return the GPUs that a training on several nodes wants on each, in Slurm's words."""
    training = CONFIG.runs[wildcards.run].training
    return f"gpu:{training.processes}" if training.nodes > 1 and gpus_of_run(wildcards) else None


def on_several_nodes(value=None):
    """Return a function for `resources`: this value, or the number of nodes, for a training on several nodes.

    The plugin for Slurm starts a job that has the resource `mpi` once, and the job itself starts its tasks by srun.
    """

    def resource(wildcards):
        nodes = CONFIG.runs[wildcards.run].training.nodes
        return (nodes if value is None else value) if nodes > 1 else None

    return resource


def training_threads(wildcards):
    """Return the CPU threads of a training on each node: two for each process with a GPU, at least one for others."""
    processes = CONFIG.runs[wildcards.run].training.processes
    return 2 * processes if gpus_of_run(wildcards) else max(2, processes)


def one_or(count):
    """Return a function for `threads`: one for a model on the CPU, so that several steps run at once, else so many."""

    def threads(wildcards):
        return count if gpus_of_run(wildcards) else 1

    return threads


def gpus_of_redaction(wildcards):
    """Return how many GPUs the classifier that redacts a dataset wants."""
    return 0 if CONFIG.models[CONFIG.runs[redacting_run(wildcards)].model].on_cpu else 1


def megabytes(count):
    """Return a function for `mem_mb`: so many MB, and as much again at each further attempt."""

    def mb(wildcards, attempt):
        return count * attempt

    return mb


def conda_file(environment):
    """Return the conda file of an environment, in the variant that the configuration asks for."""
    return f"../envs/{lock_name(environment, CONFIG.environments.torch, Path(workflow.basedir))}.yaml"


@cache
def image(environment):
    """Return the container image of an environment: the configuration's, else the one that `make containers` builds."""
    chosen = CONFIG.environments.images.get(environment)
    if chosen is None:
        chosen = os.path.relpath(built_image(environment, CONFIG.environments.torch, Path(workflow.basedir)))
    elif "://" not in chosen:
        chosen = located(chosen)
    return chosen


def prepare_containers():
    """Say what every container is started with: which variables, and which folders outside the working directory."""
    files = {environment: image(environment) for environment in RUN_BY_RULES}
    missing = [environment for environment, file in files.items() if "://" not in file and not os.path.exists(file)]
    if missing:
        raise WorkflowError(lacking(missing, CONFIG.environments.torch, Path(workflow.basedir)))
    os.makedirs(HOME, exist_ok=True)
    for folder in CONFIG.pathvars.values():
        os.makedirs(folder, exist_ok=True)
    os.environ.update(passed_variables(os.environ, "apptainer" if shutil.which("apptainer") else "singularity"))
    outside = [workflow.basedir, *paths_of(CONFIG, ROOTS), *host_folders(os.environ)]
    try:
        arguments = bound_arguments(places_outside(outside, [os.getcwd()]))
    except UserError as error:
        raise WorkflowError(str(error)) from None
    # The user's own, such as --nv of a profile, come after ours. A cluster's job is given both, as they were where it was
    # submitted; a folder that was bound there need not be on this node.
    settings = workflow.deployment_settings
    if workflow.is_main_process:
        os.environ[USERS_ARGUMENTS] = settings.apptainer_args
    elif workflow.remote_exec:
        settings.apptainer_args = os.environ.get(USERS_ARGUMENTS, settings.apptainer_args)
    if arguments not in settings.apptainer_args:
        settings.apptainer_args = f"{arguments} {settings.apptainer_args}"


def training_mb(wildcards, attempt):
    """Return the main memory of a training job on each node in MB; more at each attempt."""
    processes = CONFIG.runs[wildcards.run].training.processes
    return (48000 if gpus_of_run(wildcards) else 5000) * processes * attempt


def variant_model(wildcards):
    """Return the manifest of the model that a variant loads: the merged one, or the base."""
    merged = of_maker("merged/manifest.json")
    return merged(wildcards) if wildcards.variant == "merged" else base_manifest(wildcards)


def variant_adapter(wildcards):
    """Return the manifest of the adapter for the variant `adapter`, and nothing for the others."""
    return of_maker("adapter/manifest.json")(wildcards) if wildcards.variant == "adapter" else []


def prompt_set_files(wildcards):
    """Return the files of a run's prompt sets."""
    return [located(prompt_set.file) for prompt_set in CONFIG.runs[wildcards.run].prompt_sets.values()]


def prompt_set_options(wildcards):
    """Return the options that name a run's prompt sets."""
    sets = CONFIG.runs[wildcards.run].prompt_sets
    return [word for name, s in sets.items() for word in ("--prompt-set", f"{name}={located(s.file)}")]


def redaction_threads(wildcards):
    """Return the threads of a redaction: one for a model on the CPU."""
    return 8 if gpus_of_redaction(wildcards) else 1


def scored_files(name):
    """Return an input function: this file of the run, `{variant}` filled in with each of its variants."""

    def paths(wildcards):
        variants = answer_variants(CONFIG.runs[wildcards.run])
        return [f"<results>/runs/{wildcards.run}/{name}".replace("{variant}", variant) for variant in variants]

    return paths


def score_settings(wildcards):
    """Return what the scores of a run depend on, as JSON: its task, `score` section, own metrics and language."""
    run = CONFIG.runs[wildcards.run]
    score = run.score.model_dump(mode="json")
    if run.score.metrics_from:
        score["metrics_from"] = located(run.score.metrics_from)
        score["metrics_from_sha256"] = sha256_of(score["metrics_from"])
    settings = {
        "task": run.task,
        "score": score,
        "language": CONFIG.datasets[run.dataset].language,
    }
    return json.dumps(settings, ensure_ascii=False, sort_keys=True)


def verdict_settings(wildcards):
    """Return what the verdict on a run depends on, as JSON: the gates that are for it, and what is shipped."""
    run = CONFIG.runs[wildcards.run]
    settings = {
        "gates": gates_of(CONFIG, wildcards.run),
        "shipped": shipped_variant(run),
        "bootstrap": run.score.bootstrap,
        "seed": run.score.seed,
    }
    return json.dumps(settings, ensure_ascii=False, sort_keys=True)


def run_facts(name):
    """Return what reports say of a run."""
    run = CONFIG.runs[name]
    return {
        "run": name,
        "dataset": run.dataset,
        "model": run.model,
        "task": run.task,
        "method": run.method,
        "strategies": list(run.strategies),
        "strategy": run.strategy,
    }


def curve_of_run(wildcards):
    """Return the curve of a run's training, where there was one."""
    trained = CONFIG.runs[wildcards.run].method != "prompt"
    return of_maker("curve.jsonl")(wildcards) if trained else []


def training_of_run(wildcards):
    """Return the facts of a run's training, where there was one."""
    trained = CONFIG.runs[wildcards.run].method != "prompt"
    return of_maker("training.json")(wildcards) if trained else []


def report_settings(wildcards):
    """Return what the report of a run says of it, as JSON."""
    return json.dumps(run_facts(wildcards.run), ensure_ascii=False, sort_keys=True)


def leaderboard_settings(wildcards):
    """Return the runs and their variants, as JSON."""
    runs = [{**run_facts(name), "variants": answer_variants(run)} for name, run in CONFIG.runs.items()]
    return json.dumps({"runs": runs}, ensure_ascii=False, sort_keys=True)


def leaderboard_scores(wildcards):
    """Return the scores of every variant of every run."""
    return [
        f"<results>/runs/{name}/scores/{variant}.json"
        for name, run in CONFIG.runs.items()
        for variant in answer_variants(run)
    ]


def base_manifests(wildcards):
    """Return the manifests of the base models that runs use."""
    return [f"<results>/models/{model}/manifest.json" for model in sorted({run.model for run in CONFIG.runs.values()})]


def every_result(wildcards):
    """Return what `snakemake` makes by itself: ledgers; curve, report and bundle of each run; the leaderboard."""
    made = [f"<results>/datasets/{name}/ledger.html" for name in CONFIG.datasets]
    for name, run in CONFIG.runs.items():
        made.append(f"<results>/runs/{name}/report.html")
        if CONFIG.datasets[run.dataset].format == "spans":
            made += [f"<results>/runs/{name}/confusion/{variant}.svg" for variant in answer_variants(run)]
        if run.method != "prompt":
            made += [f"<results>/runs/{MAKERS[name]}/curve.svg", f"<results>/runs/{name}/bundle/SHA256SUMS"]
    return [*made, "<results>/leaderboard.csv", "<results>/leaderboard.html"]


def show_summary():
    """Print what the runs came to, if the leaderboard was made just now and nobody else shows it (`make` does)."""
    results = CONFIG.pathvars.get("results", "results")
    table = os.path.join(results, "leaderboard.csv")
    made_now = os.path.exists(table) and os.path.getmtime(table) >= STARTED
    if made_now and "SNAKETUNE_NO_SUMMARY" not in os.environ:
        command = [sys.executable, workflow_file("scripts/score/print_summary.py"), results]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(workflow.basedir)}, check=False)


wildcard_constraints:
    dataset=one_of(CONFIG.datasets),
    model=one_of(CONFIG.models),
    run=one_of(CONFIG.runs),


if IN_CONTAINERS:
    prepare_containers()


if DRY_RUN:
    for line in memory_lines(CONFIG, located):
        print(line, file=sys.stderr)
