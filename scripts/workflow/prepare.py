"""What happens once per run of Snakemake: checks, locks, the environment of every step, and the summary at the end."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
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
from scripts.config.environments import RUN_BY_RULES
from scripts.config.load import load_config
from scripts.config.paths import files_at
from scripts.config.root import Config
from scripts.workflow.code_digest import step_code
from scripts.workflow.container_images import built_image, lacking, lock_name
from scripts.workflow.container_settings import (
    bound_arguments,
    host_folders,
    passed_variables,
    paths_of,
    places_outside,
)
from scripts.workflow.folder_lock import OWNER, one_workflow_at_a_time
from scripts.workflow.hidden_secrets import HideSecrets
from scripts.workflow.lost_outputs import remake_lost_outputs
from scripts.workflow.memory.report import memory_lines

# Inside of a container the working directory is HOME; what libraries put there goes beside Snakemake's own files.
HOME = os.path.join(".snakemake", "home")
# What the user gave by --apptainer-args, for a cluster's jobs.
USERS_ARGUMENTS = "SNAKETUNE_APPTAINER_ARGS"


@dataclass(frozen=True)
class OwnPath:
    """A file in the workflow's folder, for parameters. Snakemake records a parameter's `repr`, here a digest.

    So a step does not run again because the workflow is in another folder. Put it in a list: Snakemake records lists by
    their `repr` and ignores types that it does not know.
    """

    path: str
    digest: str

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return self.digest


@dataclass(eq=False)
class Prepared:
    """What the rules read: the checked configuration, and where its files and those of the workflow are."""

    config: Config
    config_files: list[str]
    root: Path
    in_containers: bool

    def files(self, pattern: str) -> list[str]:
        """Return what a path or a glob of the configuration names, in the working or else in the workflow's folder.

        What is in neither is for a rule to make.
        """
        return files_at(pattern, (os.curdir, self.root)) or [pattern]

    def located(self, path: str) -> str:
        """Return where a file or folder that the configuration names is."""
        return self.files(path)[0]

    def own_file(self, path: str | Path) -> list[OwnPath]:
        """Return a file of the workflow's own folder, in a list (see `OwnPath`)."""
        return [OwnPath(os.path.relpath(self.root / path), sha256_of(self.root / path))]

    def script(self, path: str) -> list[OwnPath]:
        """Return a script in a list; its digest changes with what decides its step's result."""
        file = self.root / "scripts" / path
        return [OwnPath(os.path.relpath(file), step_code(file))]

    @property
    def python(self) -> list[OwnPath]:
        """The interpreter of a step that runs in no container."""
        return [OwnPath(sys.executable if self.in_containers else "python", "python")]

    def conda_file(self, environment: str) -> str:
        """Return the conda file of an environment, as rules name it, in the variant that the configuration asks for."""
        return f"../envs/{lock_name(environment, self.config.environments.torch, self.root)}.yaml"

    @cached_property
    def images(self) -> dict[str, str]:
        """The container image of each environment: the configuration's, else the one that `make containers` builds."""
        chosen, torch = self.config.environments.images, self.config.environments.torch
        built = {name: built_image(name, torch, self.root) for name in RUN_BY_RULES if name not in chosen}
        named = {name: image if "://" in image else self.located(image) for name, image in chosen.items()}
        return {name: os.path.relpath(path) for name, path in built.items()} | named


def prepare(workflow: Any) -> Prepared:
    """Read and check the configuration, and have Snakemake and the steps that it starts work by it.

    Raises WorkflowError for a faulty configuration and for container images that are not there.
    """
    # `--verbose` would write a Slurm job's whole environment into its log.
    logger.addFilter(HideSecrets())
    root, methods = Path(workflow.basedir), {str(each) for each in workflow.deployment_settings.deployment_method}
    # A later file over those before it: `--configfile` wins over the Snakefile's default.
    named = [str(path) for path in workflow.overwrite_configfiles]
    files = [str(path) for path in workflow.configfiles if str(path) not in named] + named
    try:
        config = load_config(workflow.config, files, (os.curdir, root), dict(workflow.config_settings.config))
        prepared = Prepared(config, named_below(files, root), root, "apptainer" in methods)
        # The override of a configuration has its results in a folder below.
        workflow.pathvars.update(Pathvars.from_config({"pathvars": config.pathvars}))
        shell.prefix(shell_prefix(prepared, own_environment=not methods))
        # Where a cluster's jobs, which inherit it, find the files of their profile.
        os.environ["SNAKETUNE_FOLDER"] = str(root)
        remake_lost_outputs()
        # A run that was killed leaves no lock for a person to remove. Jobs of a cluster's nodes are not this process's.
        one_workflow_at_a_time()
        if workflow.remote_exec:
            os.environ.pop(OWNER, None)
        if prepared.in_containers:
            prepare_containers(workflow, prepared)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if workflow.output_settings.dryrun:
        for line in memory_lines(config, prepared.located):
            print(line, file=sys.stderr)
    return prepared


def named_below(files: list[str], root: Path) -> list[str]:
    """Return the names of the configuration's files: relative to the working directory or the workflow's folder."""
    names = []
    for path in map(os.path.abspath, files):
        inside = [os.path.relpath(path, folder) for folder in (os.curdir, root)]
        names.append(next((name for name in inside if not name.startswith(os.pardir)), os.path.basename(path)))
    return names


def shell_prefix(prepared: Prepared, own_environment: bool) -> str:
    """Return what the shell of each step does first.

    Steps import from the workflow's folder and from nothing of the user's own site-packages; without --sdm they run in
    the environment of this Snakemake. Threads that wait sleep: spinning ones slow down every job that shares their
    cores. The images of many notebooks forbid bytecode, without which each step compiles torch's 2,000 modules again,
    in 5 to 10 s.
    """
    variables = {"PYTHONPATH": prepared.root, "PYTHONNOUSERSITE": 1, "PYTHONSAFEPATH": 1, "OMP_WAIT_POLICY": "PASSIVE"}
    variables |= OFFLINE_ENVIRONMENT if prepared.config.offline else {}
    words = [f"{name}={shlex.quote(str(value))}" for name, value in variables.items()]
    words += [f"PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH"] if own_environment else []
    words += [f"HOME={shlex.quote(os.path.abspath(HOME))}"] if prepared.in_containers else []
    return f"unset PYTHONHOME PYTHONINSPECT PYTHONDONTWRITEBYTECODE; export {' '.join(words)}; "


def prepare_containers(workflow: Any, prepared: Prepared) -> None:
    """Say what every container is started with: which variables, and which folders outside the working directory."""
    config, root = prepared.config, prepared.root
    missing = [name for name, file in prepared.images.items() if "://" not in file and not os.path.exists(file)]
    if missing:
        raise UserError(lacking(missing, config.environments.torch, root))
    for folder in (HOME, *config.pathvars.values()):
        os.makedirs(folder, exist_ok=True)
    os.environ.update(passed_variables(os.environ, "apptainer" if shutil.which("apptainer") else "singularity"))
    outside = [str(root), *paths_of(config, (os.curdir, root)), *host_folders(os.environ)]
    arguments = bound_arguments(places_outside(outside, [os.getcwd()]))
    # The user's own, such as --nv of a profile, come after ours. A cluster's job is given both, as they were where it
    # was submitted; a folder that was bound there need not be on this node.
    settings = workflow.deployment_settings
    if workflow.is_main_process:
        os.environ[USERS_ARGUMENTS] = settings.apptainer_args
    elif workflow.remote_exec:
        settings.apptainer_args = os.environ.get(USERS_ARGUMENTS, settings.apptainer_args)
    if arguments not in settings.apptainer_args:
        settings.apptainer_args = f"{arguments} {settings.apptainer_args}"


def show_summary(workflow: Any, prepared: Prepared) -> None:
    """Print what the runs came to, if the leaderboard was made just now and nobody else shows it (`make` does)."""
    results = prepared.config.pathvars.get("results", "results")
    table = os.path.join(results, "leaderboard.csv")
    made_now = os.path.exists(table) and os.path.getmtime(table) >= workflow.start_time.timestamp()
    if made_now and "SNAKETUNE_NO_SUMMARY" not in os.environ:
        command = [sys.executable, prepared.root / "scripts/score/print_summary.py", results]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(prepared.root)}, check=False)
