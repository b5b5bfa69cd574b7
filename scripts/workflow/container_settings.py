"""Choose the folders and environment variables of the host that containers can use.

By default Apptainer passes most of the host's environment to a container, including variables for another Python's
modules and start-up files. `--cleanenv` passes nothing, so this module lists what steps need.
"""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.common.parent_watchdog import OWNER
from scripts.common.terminal import CHANNEL
from scripts.config.paths import Roots, files_at, named_paths
from scripts.deploy.target import SCHEME

# Variables that name folders of the host; the folders are bound and the variables are passed.
FOLDERS = ("HF_HOME", "HF_HUB_CACHE", "SNAKETUNE_GPU_LOCKS", "SNAKETUNE_LEASES", "SNAKETUNE_WHEELS", "TMPDIR")
FILES = ("REQUESTS_CA_BUNDLE", "SNAKETUNE_LLAMA_CPP_ARCHIVE", "SSL_CERT_FILE")
VARIABLES = (
    "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "CUDA_VISIBLE_DEVICES", "http_proxy",
    "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
)  # fmt: skip
PREFIXES = ("SNAKETUNE_", "SLURM_", "WANDB_", "MLFLOW_", "TRACKIO_")
# The image sets this variable itself.
NOT_PASSED = ("SNAKETUNE_LLAMA_CPP_FOLDER",)
# Folders that the image itself contains; from these, files are bound one by one.
OF_THE_IMAGE = ("/bin", "/etc", "/lib", "/lib64", "/sbin", "/usr", "/var/lib")
# Known only when a job starts; the shell that starts the container expands them.
OF_THE_JOB = ("OMP_NUM_THREADS", OWNER, CHANNEL)
ARGUMENTS = " ".join(["--cleanenv", *(f'--env {name}="${{{name}-}}"' for name in OF_THE_JOB)])


def passed_variables(environment: Mapping[str, str], program: str) -> dict[str, str]:
    """Return variables that make Apptainer (or `singularity`) set the variables of the steps in a container."""
    names = [
        name
        for name in environment
        if name in (*FOLDERS, *FILES, *VARIABLES)
        or (name.startswith(PREFIXES) and name not in (*NOT_PASSED, *OF_THE_JOB))
    ]
    return {f"{program.upper()}ENV_{name}": environment[name] for name in names}


def bound_arguments(folders: Iterable[str]) -> str:
    """Return the arguments of `apptainer exec` for all steps, quoted for the shell."""
    binds = list(folders)
    for path in binds:
        if any(character in path for character in ",:'"):
            raise UserError(f"'{path}' can't be shown to a container", remedy="no comma, colon or quote may be in it")
    return " ".join([ARGUMENTS, *(f"--bind {shlex.quote(path)}" for path in binds)])


def host_folders(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the folders and files of the host that passed variables name."""
    for name in (*FOLDERS, *FILES):
        if environment.get(name) and os.path.exists(environment[name]):
            yield environment[name]


def paths_of(config: Any, roots: Roots) -> Iterator[str]:
    """Yield each path that the configuration names and all files in it, which may be links to other folders."""
    named = [path for _, path in named_paths(config)]
    named += [dataset.corrections for dataset in config.datasets.values() if dataset.corrections]
    named += [model.chat_template for model in config.models.values() if model.chat_template]
    named += [run.score.votes for run in config.runs.values() if run.score.votes]
    for pattern in named:
        for path in files_at(pattern, roots):
            yield path
            for folder, _, files in os.walk(path):
                yield from (os.path.join(folder, name) for name in files)
    yield from config.pathvars.values()
    targets = [run.deploy.target.folder for run in config.runs.values() if run.deploy.target]
    yield from (target for target in targets if not SCHEME.match(target))


def places_outside(paths: Iterable[str], inside: Sequence[str]) -> list[str]:
    """Return the folders and files to bind so that all paths and the targets of links can be read.

    Paths below a folder of `inside` are already bound. Of nested folders, only the outermost is returned.
    """
    wanted = {shown_place(place) for path in paths for place in (os.path.abspath(path), os.path.realpath(path))}
    kept: list[str] = []
    for place in sorted(wanted):
        if not any(Path(place).is_relative_to(outer) for outer in (*inside, *kept)):
            kept.append(place)
    return kept


def shown_place(path: str) -> str:
    """Return the folder of a file, to bind other files there as well; the file itself if the image has that folder."""
    folder = Path(path) if os.path.isdir(path) else Path(path).parent
    own = folder == Path("/") or any(folder.is_relative_to(system) for system in OF_THE_IMAGE)
    return path if own else str(folder)
