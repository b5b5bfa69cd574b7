"""Download one pinned archive with pip, from wherever pip is configured to look."""

import logging
import subprocess
import sys
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.offline import PAGE, is_offline
from scripts.common.orphans import die_with_parent

log = logging.getLogger(__name__)


def pip_download(requirements: Path, folder: Path, options: list[str], name: str, variable: str) -> Path:
    """Have pip download the archive that a requirements file pins by its hash; return the file. Nothing is compiled.

    `name` is the package with its version, and `variable` the environment variable that names an archive or a folder
    of archives to use without a network. Raises UserError offline, and when pip fails.
    """
    if is_offline():
        raise UserError(
            f"the archive of {name} is needed, and 'offline: true' forbids to download it",
            remedy=f"carry it here and name it in {variable} ({PAGE})",
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", *options]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "--no-input"]
    command += ["-d", str(folder), "-r", str(requirements)]
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        preexec_fn=die_with_parent,
    )
    log.info("%s", result.stdout.strip())
    archives = list(folder.iterdir())
    if result.returncode or len(archives) != 1:
        lines = [line.strip() for line in result.stdout.splitlines() if line.strip()] or ["no reason given"]
        errors = [line for line in lines if line.lower().startswith("error")]
        raise UserError(
            f"pip can't fetch {name}: {(errors or lines)[-1]}",
            remedy=f"fetch the archive by hand and name it in {variable}",
        )
    return archives[0]
