"""Checks and settings of a cluster for profiles/slurm. Imports only packages that Snakemake itself installs."""

import re
import subprocess
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

# Snakemake's plugin queries its jobs at least every 180 seconds. Slurm must remember ended jobs for this time.
LONGEST_LOOK = 180
PROFILE = "profiles/slurm"
NAMED = re.compile(r"[^\s'\"\\$`;&|<>(){}*?~#!]*")
GPU = re.compile(r"[A-Za-z0-9_.]*")  # what the plugin accepts
LONGEST_WARNING = 65535  # seconds; the maximum of sbatch


class Variable(NamedTuple):
    """The allowed values of a variable of the profile: as text, and as a function."""

    may_be: str
    takes: Callable[[Any], bool]


def is_name(value: Any) -> bool:
    """Return whether a value is None or a name for sbatch."""
    return value is None or (type(value) in (str, int) and NAMED.fullmatch(str(value)) is not None)


def is_gpu(value: Any) -> bool:
    """Return whether a value is None or a GPU model that the plugin accepts."""
    return value is None or (type(value) in (str, int) and GPU.fullmatch(str(value)) is not None)


def is_warning(value: Any) -> bool:
    """Return whether a value is a number of seconds that sbatch accepts."""
    return str(value).isdecimal() and 0 < int(value) <= LONGEST_WARNING


NAME = Variable('one name without spaces, or ""', is_name)
VARIABLES = {
    "partition": NAME,
    "account": NAME,
    "qos": NAME,
    "gpu_partition": NAME,
    "gpu_model": Variable('letters, digits, "_" and "." as in `sinfo -o %G`, or ""', is_gpu),
    "warning": Variable(f"whole seconds from 1 to {LONGEST_WARNING}", is_warning),
    "arrays": Variable("true or false", lambda value: type(value) is bool),
}


def check_variables(found: dict[str, Any]) -> None:
    """Exit with one line for the first variable of the profile that is missing or invalid.

    `found` holds all names of the profile's template; names that are not in VARIABLES are ignored.
    """
    for name, variable in VARIABLES.items():
        if name not in found:
            near = get_close_matches(name, [other for other in found if other not in VARIABLES], n=1)
            meant = f"; is '{near[0]}' meant to be it?" if near else ""
            raise SystemExit(f"{profile()}: __variables__ has no '{name}': {variable.may_be}{meant}")
        if not variable.takes(found[name]):
            raise SystemExit(f"{profile()}: '{name}' is {found[name]!a}: it may be {variable.may_be}")


def profile() -> str:
    """Return the file of the profile that Snakemake uses, which may be a copy of profiles/slurm."""
    name, words = PROFILE, iter(sys.argv[1:])
    for word in words:
        option, equals, value = word.partition("=")
        if option == "--workflow-profile":
            name = value if equals else next(words, name)
    return name if name.endswith(".yaml") else f"{name.rstrip('/')}/profile.yaml"


def status_command() -> str:
    """Return the command that reports how jobs ended: squeue, or sacct if the controller forgets jobs too soon.

    squeue asks the controller. It works without an accounting database (slurmdbd), and names the tasks of a job array
    as Snakemake does. Without the database sacct fails, and Snakemake would wait forever. Exits with one line if
    neither command works.
    """
    age = re.search(r"^MinJobAge\s*=\s*(\d+)", printed("scontrol", "show", "config"), re.MULTILINE)
    if age is None or int(age[1]) > LONGEST_LOOK:
        return "squeue"
    if printed("sacctmgr", "--noheader", "--parsable2", "show", "cluster", "format=cluster").strip():
        return "sacct"
    raise SystemExit(
        f"This Slurm forgets a job {age[1]} s after its end and keeps no accounts: nobody could tell how jobs ended. "
        f"Ask its administrator for MinJobAge={LONGEST_LOOK + 120} or for slurmdbd."
    )


def printed(*command: str) -> str:
    """Return the output of a command; empty if the command fails or is missing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
