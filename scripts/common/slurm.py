"""What profiles/slurm must know of a cluster. Imports nothing that a plain Snakemake does not have."""

import re
import subprocess

# Snakemake's plugin looks at its jobs at least every 180 seconds: so long must one that has ended be remembered.
LONGEST_LOOK = 180


def status_command() -> str:
    """Return the program that tells how jobs ended: squeue, or sacct where the controller forgets them too soon.

    squeue asks the controller: it works with and without a database of accounts (slurmdbd), and knows the tasks of a
    job array by the names that Snakemake knows. Without that database sacct fails, and Snakemake would wait for ever.
    Exits with a line when neither could tell.
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
    """Return what a command prints, and nothing where it fails or isn't there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
