"""Resources of this machine, for profiles/default. Imports only packages that Snakemake itself installs."""

import importlib.util
import os
import sys
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.gpu_locks import devices

# The rest is for the system and its users.
SHARE_OF_MEMORY = 0.9
CGROUPS = Path("/sys/fs/cgroup")
LOGGER_PLUGIN = "snakemake_logger_plugin_snaketune"


def gpu_limit() -> int:
    """Return the number of GPUs for jobs; at least 1, so that without GPUs one job at a time trains."""
    try:
        return max(len(devices()), 1)
    except UserError as error:
        print(f"profiles/default: {error}", file=sys.stderr)
        return 1


def memory_limit() -> int:
    """Return the main memory for all jobs together in MB: nine tenths of this process's limit."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min([physical, *cgroup_limits()]) * SHARE_OF_MEMORY) // 1_000_000


def cgroup_limits(own: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> list[int]:
    """Return memory limits in bytes of this process's control groups (version 1 or 2) and their parents."""
    limits = []
    for line in own.read_text(encoding="utf-8").splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base, name = (root / controllers, "memory.limit_in_bytes") if controllers else (root, "memory.max")
        group = base / path.strip("/")
        for folder in (group, *group.parents):
            if (folder / name).is_file():
                limits.append((folder / name).read_text(encoding="utf-8").strip())
            if folder == base:
                break
    return [int(limit) for limit in limits if limit.isdigit()]


def has_logger() -> bool:
    """Return whether the workflow's logger plugin is installed; outside of .venv it may be missing."""
    return importlib.util.find_spec(LOGGER_PLUGIN) is not None


def another_platform(words: list[str] | None = None) -> bool:
    """Return whether Snakemake's arguments choose another platform, for which this machine's limits are wrong.

    Snakemake reads profiles/default in addition to `--profile`, and the entries of profiles/default have priority.
    """
    words = sys.argv[1:] if words is None else words
    options = {word.split("=")[0] for word in words}
    return bool(options & {"--profile", "--executor", "-e"}) or "SNAKEMAKE_PROFILE" in os.environ
