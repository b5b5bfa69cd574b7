"""The setting `offline: true`: the environment variables of the steps, and downloads with pip, which it forbids."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.parent_watchdog import die_with_parent

VARIABLE = "SNAKETUNE_OFFLINE"
# Variables of the libraries: hub and datasets, telemetry, pip, trackers.
ENVIRONMENT = {
    VARIABLE: "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "PIP_NO_INDEX": "1",
    "WANDB_MODE": "offline",
}
PAGE = "docs/how-to/air-gapped.md"
log = logging.getLogger(__name__)


def is_offline() -> bool:
    """Return whether the configuration forbids the network."""
    return bool(os.environ.get(VARIABLE))


def pip_download(requirements: Path, folder: Path, options: list[str], name: str, variable: str) -> Path:
    """Download the archive that a requirements file pins by its hash, with pip, and return it; nothing is compiled.

    `name` is the package with its version. `variable` is the environment variable that names an archive, or a folder of
    archives, to use without a network. Raises UserError offline, and if pip fails.
    """
    if is_offline():
        remedy = f"copy it to this machine and set {variable} to its path ({PAGE})"
        raise UserError(f"the archive of {name} is missing, and 'offline: true' forbids the download", remedy=remedy)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", *options, "--no-input"]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "-d", str(folder), "-r", str(requirements)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    result = subprocess.run(command, **streams, check=False, preexec_fn=die_with_parent)
    log.info("%s", result.stdout.strip())
    archives = list(folder.iterdir())
    if result.returncode or len(archives) != 1:
        lines = [line.strip() for line in result.stdout.splitlines() if line.strip()] or ["no reason given"]
        errors = [line for line in lines if line.lower().startswith("error")]
        remedy = f"download the archive yourself and set {variable} to its path"
        raise UserError(f"pip can't download {name}: {(errors or lines)[-1]}", remedy=remedy)
    return archives[0]
