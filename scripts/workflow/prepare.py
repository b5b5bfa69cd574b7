"""Tasks that run once per call of Snakemake: checks, locks, the environment of the steps, and the final summary."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.pathvars import Pathvars
from snakemake.shell import shell

from scripts.common.errors import UserError
from scripts.common.files import sha256_of
from scripts.common.offline import ENVIRONMENT as OFFLINE_ENVIRONMENT
from scripts.common.threads import OPENMP
from scripts.config.environments import RUN_BY_RULES
from scripts.config.load import load_config
from scripts.config.paths import files_at
from scripts.config.root import Config
from scripts.config.variants import trained_by
from scripts.workflow.code_digest import kept_step_code
from scripts.workflow.container_images import built_image, lock_name
from scripts.workflow.container_settings import (
    bound_arguments,
    host_folders,
    passed_variables,
    paths_of,
    places_outside,
)
from scripts.workflow.folder_lock import OWNER, one_workflow_at_a_time
from scripts.workflow.gate_sizes import gate_lines
from scripts.workflow.hidden_secrets import HideSecrets
from scripts.workflow.lost_outputs import remake_lost_outputs
from scripts.workflow.memory.report import memory_lines
from scripts.workflow.plan_speed import speed_up_plans

# HOME in containers, so that files that libraries write there go next to Snakemake's own files.
HOME = os.path.join(".snakemake", "home")
CODES = Path(".snakemake", "codes.json")
# Passes the user's --apptainer-args to the jobs of a cluster.
USERS_ARGUMENTS = "SNAKETUNE_APPTAINER_ARGS"


@dataclass(frozen=True)
class OwnPath:
    """A file in the workflow's folder, for parameters of rules.

    Its `repr`, which Snakemake records, is a digest, so that steps do not run again if the workflow is in another
    folder. Use it in a list: Snakemake records lists by their `repr`, and ignores types that it does not know.
    """

    path: str
    digest: str

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return self.digest


class Recorded(str):
    """A text for a parameter of a rule, of which Snakemake records another text: it records the `repr`."""

    def __new__(cls, text: str, recorded: str):
        made = super().__new__(cls, text)
        made.recorded = recorded
        return made

    def __repr__(self) -> str:
        return repr(self.recorded)


@dataclass(eq=False)
class Prepared:
    """The checked configuration, and the paths of its files and of the workflow's files, for the rules."""

    config: Config
    config_files: list[str]
    root: Path
    in_containers: bool
    _files: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def trained_by(self) -> dict[str, str]:
        """The run that makes the model of each run: runs that differ only in how they answer share a model."""
        return trained_by(self.config.runs)

    def files(self, pattern: str) -> list[str]:
        """Return the files of a path or a glob: in the working directory, else in the workflow's folder.

        A pattern without files is returned unchanged, because a rule may make the file. Each pattern is looked for
        once: the runs of a sweep name the same files.
        """
        if pattern not in self._files:
            self._files[pattern] = files_at(pattern, (os.curdir, self.root)) or [pattern]
        return self._files[pattern]

    def located(self, path: str) -> str:
        """Return the location of a file or folder that the configuration names."""
        return self.files(path)[0]

    def own_file(self, path: str | Path) -> list[OwnPath]:
        """Return a file of the workflow's folder, in a list (see `OwnPath`)."""
        return [OwnPath(os.path.relpath(self.root / path), sha256_of(self.root / path))]

    def script(self, path: str) -> list[OwnPath]:
        """Return a script in a list; its digest is that of the step's code (see `step_code`)."""
        file = self.root / "scripts" / path
        return [OwnPath(os.path.relpath(file), kept_step_code(file, CODES))]

    @property
    def python(self) -> list[OwnPath]:
        """The interpreter of a step that never runs in a container."""
        return [OwnPath(sys.executable if self.in_containers else "python", "python")]

    def conda_file(self, environment: str) -> str:
        """Return the conda file of an environment relative to rules/, in the variant of `environments.torch`."""
        return f"../envs/{lock_name(environment, self.config.environments.torch, self.root)}.yaml"

    @cached_property
    def images(self) -> dict[str, str]:
        """The container image of each environment: that of the configuration, else the one by `make containers`."""
        chosen, torch = self.config.environments.images, self.config.environments.torch
        built = {name: built_image(name, torch, self.root) for name in RUN_BY_RULES if name not in chosen}
        named = {name: image if "://" in image else self.located(image) for name, image in chosen.items()}
        return {name: os.path.relpath(path) for name, path in built.items()} | named


def prepare(workflow: Any, root: Path) -> Prepared:
    """Read and check the configuration, and set up Snakemake and the environment of the steps.

    `root` is the workflow's folder. Raises WorkflowError for an invalid configuration and for missing container images.
    """
    speed_up_plans(dry_run=workflow.output_settings.dryrun)
    # With `--verbose`, the whole environment of a Slurm job is written to its log.
    logger.addFilter(HideSecrets())
    methods = {str(each) for each in workflow.deployment_settings.deployment_method}
    # Later files have priority: `--configfile` replaces settings of the Snakefile's default.
    named = [str(path) for path in workflow.overwrite_configfiles]
    files = [str(path) for path in workflow.configfiles if str(path) not in named] + named
    try:
        config = load_config(workflow.config, files, (os.curdir, root), dict(workflow.config_settings.config))
        prepared = Prepared(config, named_below(files, root), root, "apptainer" in methods)
        # An override may put the results into a subfolder, also if this workflow is a module.
        workflow.pathvars.update(Pathvars.from_config({"pathvars": config.pathvars}, module_level=True))
        shell.prefix(shell_prefix(prepared, own_environment=not methods))
        # Jobs of a cluster inherit this variable and find the files of their profile with it.
        os.environ["SNAKETUNE_FOLDER"] = str(root)
        remake_lost_outputs()
        # A killed run leaves no lock for the user to remove. Jobs on cluster nodes do not watch this lock.
        one_workflow_at_a_time()
        if workflow.remote_exec:
            os.environ.pop(OWNER, None)
        if prepared.in_containers:
            prepare_containers(workflow, prepared)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if workflow.output_settings.dryrun:
        for line in (*memory_lines(config, prepared.located), *gate_lines(config)):
            print(line, file=sys.stderr)
    return prepared


def named_below(files: list[str], root: Path) -> list[str]:
    """Return the configuration's files relative to the working directory or to the workflow's folder."""
    names = []
    for path in map(os.path.abspath, files):
        inside = [os.path.relpath(path, folder) for folder in (os.curdir, root)]
        names.append(next((name for name in inside if not name.startswith(os.pardir)), os.path.basename(path)))
    return names


def shell_prefix(prepared: Prepared, own_environment: bool) -> str:
    """Return the commands that the shell of each step runs first.

    Steps import from the workflow's folder and not from the user's site-packages. Without --sdm, they run in the
    environment of this Snakemake, with the threads of OpenMP as scripts/common/threads.py says.
    Many notebook images disable bytecode files; each step would then compile torch's 2,000 modules again, in 5 to 10 s.
    """
    variables = {"PYTHONPATH": prepared.root, "PYTHONNOUSERSITE": 1, "PYTHONSAFEPATH": 1}
    variables |= OPENMP | (OFFLINE_ENVIRONMENT if prepared.config.offline else {})
    words = [f"{name}={shlex.quote(str(value))}" for name, value in variables.items()]
    words += [f"PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH"] if own_environment else []
    words += [f"HOME={shlex.quote(os.path.abspath(HOME))}"] if prepared.in_containers else []
    return f"unset PYTHONHOME PYTHONINSPECT PYTHONDONTWRITEBYTECODE; export {' '.join(words)}; "


def prepare_containers(workflow: Any, prepared: Prepared) -> None:
    """Set the variables of all containers, and bind folders outside the working directory."""
    config, root = prepared.config, prepared.root
    missing = [name for name, file in prepared.images.items() if "://" not in file and not os.path.exists(file)]
    if missing:
        place = "" if root == Path.cwd() else f"-C {shlex.quote(os.path.relpath(root))} "
        command = f'make {place}containers ENVS="{" ".join(missing)}" TORCH={config.environments.torch}'
        cpu = config.environments.torch == "cpu"
        remedy = "build it with" if cpu else "for images of a CPU set environments: {torch: cpu}; else build it with"
        raise UserError(f"no container image of {', '.join(missing)}", remedy=f"{remedy} `{command}`")
    for folder in (HOME, *config.pathvars.values()):
        os.makedirs(folder, exist_ok=True)
    os.environ.update(passed_variables(os.environ, "apptainer" if shutil.which("apptainer") else "singularity"))
    outside = [str(root), *paths_of(config, (os.curdir, root)), *host_folders(os.environ)]
    arguments = bound_arguments(places_outside(outside, [os.getcwd()]))
    # The user's arguments, such as --nv of a profile, follow ours. A job of a cluster is started with both as they were
    # on the submitting node, but the folders that were bound there may not exist here.
    settings = workflow.deployment_settings
    if workflow.is_main_process:
        os.environ[USERS_ARGUMENTS] = settings.apptainer_args
    elif workflow.remote_exec:
        settings.apptainer_args = os.environ.get(USERS_ARGUMENTS, settings.apptainer_args)
    if arguments not in settings.apptainer_args:
        settings.apptainer_args = f"{arguments} {settings.apptainer_args}"


def show_summary(workflow: Any, prepared: Prepared) -> None:
    """Print a summary of the runs if this call made the leaderboard, unless the caller prints it (as `make` does)."""
    results = prepared.config.pathvars.get("results", "results")
    table = os.path.join(results, "leaderboard.csv")
    made_now = os.path.exists(table) and os.path.getmtime(table) >= workflow.start_time.timestamp()
    if made_now and "SNAKETUNE_NO_SUMMARY" not in os.environ:
        command = [sys.executable, prepared.root / "scripts/score/print_summary.py", results]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(prepared.root)}, check=False)
