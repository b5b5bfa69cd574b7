"""Checks and settings of a cluster for profiles/slurm. Imports only packages that Snakemake itself installs."""

import argparse
import re
import subprocess
from typing import Any

# Snakemake's plugin queries its jobs at least every 180 seconds. Slurm must remember ended jobs for this time.
LONGEST_INTERVAL = 180
PROFILE = "profiles/slurm"
LONGEST_WARNING = 65535  # seconds; the maximum of sbatch
NAME = (r"[^\s'\"\\$`;&|<>(){}*?~#!]*", 'a name without spaces, or ""')
# The variables of the profile: the pattern of allowed values, and its description.
VARIABLES = {
    "partition": NAME,
    "account": NAME,
    "qos": NAME,
    "gpu_partition": NAME,
    "gpu_model": (r"[A-Za-z0-9_.]*", 'letters, digits, "_" and "." as in `sinfo -o %G`, or ""'),
    "warning": (r"0*[1-9]\d*", f"whole seconds from 1 to {LONGEST_WARNING}"),
    "arrays": (r"True|False", "true or false"),
}


def check_variables(found: dict[str, Any]) -> None:
    """Exit with one line for the first variable of the profile that is missing or invalid.

    `found` holds all names of the profile's template; names that are not in VARIABLES are ignored.
    """
    for name, (pattern, allowed) in VARIABLES.items():
        if name not in found:
            raise SystemExit(f"{profile()}: __variables__ has no '{name}': add it, with {allowed}")
        text = "" if found[name] is None else str(found[name])
        is_valid = re.fullmatch(pattern, text) and (type(found[name]) is bool) == (name == "arrays")
        if not is_valid or (name == "warning" and int(text) > LONGEST_WARNING):
            raise SystemExit(f"{profile()}: '{name}' is {found[name]!a}: set it to {allowed}")


def profile() -> str:
    """Return the file of the profile that Snakemake uses, which may be a copy of profiles/slurm."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--workflow-profile", default=PROFILE)
    name = parser.parse_known_args()[0].workflow_profile
    return name if name.endswith(".yaml") else f"{name.rstrip('/')}/profile.yaml"


def status_command() -> str:
    """Return the command that reports how jobs ended: squeue, or sacct if the controller forgets jobs too soon.

    squeue asks the controller. It works without an accounting database (slurmdbd), and names the tasks of a job array
    as Snakemake does. Without the database sacct fails, and Snakemake would wait forever. Exits with one line if
    neither command works.
    """
    age = re.search(r"^MinJobAge\s*=\s*(\d+)", printed("scontrol", "show", "config"), re.MULTILINE)
    if age is None or int(age[1]) > LONGEST_INTERVAL:
        return "squeue"
    if printed("sacctmgr", "--noheader", "--parsable2", "show", "cluster", "format=cluster").strip():
        return "sacct"
    raise SystemExit(
        f"Slurm forgets a job {age[1]} s after its end and has no accounting: how jobs ended can't be found out. "
        f"Ask its administrator for MinJobAge={LONGEST_INTERVAL + 120} or for slurmdbd."
    )


def printed(*command: str) -> str:
    """Return the output of a command; empty if the command fails or is missing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
