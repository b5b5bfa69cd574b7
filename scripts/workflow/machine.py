"""What this machine has: for the limits in profiles/default. Imports nothing that a plain Snakemake does not have."""

import importlib.util
import os
import sys
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.gpu_locks import devices

# The rest is for the system and whoever sits at it.
SHARE_OF_MEMORY = 0.9
CGROUPS = Path("/sys/fs/cgroup")
DRIVER = Path("/dev/nvidiactl")
LOGGER_PLUGIN = "snakemake_logger_plugin_snaketune"


def gpu_limit() -> int:
    """Return how many GPUs jobs may have at once; at least 1, so that one job at a time trains where there is none."""
    try:
        return max(len(devices()), 1)
    except UserError as error:
        print(f"profiles/default: {error}", file=sys.stderr)
        return 1


def has_nvidia_driver() -> bool:
    """Say whether Apptainer has something of an NVIDIA driver to show to containers."""
    return DRIVER.exists()


def memory_limit() -> int:
    """Return how much main memory jobs may have together, in MB: nine tenths of what this process may have."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min([physical, *cgroup_limits()]) * SHARE_OF_MEMORY) // 1_000_000


def cgroup_limits(own: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> list[int]:
    """Return the limits in bytes on the memory of this process's control groups (version 2 or 1) and those above."""
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
    """Say whether this Snakemake has the workflow's logger plugin: that of the .venv does, another need not."""
    return importlib.util.find_spec(LOGGER_PLUGIN) is not None


def another_platform(words: list[str] | None = None) -> bool:
    """Say whether Snakemake, called with these words, has a platform of its own: then no limit of this machine holds.

    Snakemake takes profiles/default beside any `--profile`, and its entries would win.
    """
    words = sys.argv[1:] if words is None else words
    options = {word.split("=")[0] for word in words}
    return bool(options & {"--profile", "--executor", "-e"}) or "SNAKEMAKE_PROFILE" in os.environ
