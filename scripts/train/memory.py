"""Memory of a training: its use and limits, and detection of a lack of memory."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.common.errors import UserError

CGROUPS = Path("/sys/fs/cgroup")
SIGNS = ("can't allocate memory", "cannot allocate memory", "bad_alloc", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def peak_memory_mb() -> int:
    """Return the peak memory so far in MiB: of the GPU if there is one, else of this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    # Not from getrusage: a new process inherits its parent's maximum.
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", read(Path("/proc/self/status")), re.MULTILINE)[1]) // 1024


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the GPU or the machine ran out of memory."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = str(error).casefold()
    return isinstance(error, RuntimeError) and any(sign.casefold() in text for sign in SIGNS)


@contextmanager
def loading() -> Iterator[None]:
    """Turn an out-of-memory error in the block into a UserError: a smaller micro-batch would not help."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            "out of memory while the model was loaded", remedy="give the step more memory, or use a smaller model"
        ) from None


def memory_limit_mb() -> int:
    """Return the memory in MiB that this process may use: the machine's, or a lower limit."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (limit := read(own_cgroup() / name).strip()).isdigit():
            found.append(int(limit))
    if (limit := os.environ.get("SLURM_MEM_PER_NODE", "")).isdigit():
        found.append(int(limit) * 2**20)
    return min(found) // 2**20


def oom_kills() -> dict | None:
    """Return the number of out-of-memory kills in this process's control group, or on the machine.

    `where` names the counter: only values of the same counter can be compared. None if the kernel has no counter.
    Source: the kernel's admin-guide on cgroup-v2 (memory.events) and cgroup-v1 (memory.oom_control), and /proc/vmstat.
    """
    boot = read(Path("/proc/sys/kernel/random/boot_id")).strip()
    group = own_cgroup()
    for path in (group / "memory.events", group / "memory.oom_control", Path("/proc/vmstat")):
        count = re.search(r"^oom_kill (\d+)$", read(path), re.MULTILINE)
        if count:
            return {"where": f"{boot}:{path}", "count": int(count[1])}
    return None


def has_risen(before: dict | None, after: dict | None) -> bool:
    """Return whether an out-of-memory kill happened between two readings of `oom_kills`."""
    return bool(before and after) and before["where"] == after["where"] and before["count"] < after["count"]


def own_cgroup() -> Path:
    """Return the folder of the control group that limits this process's memory."""
    lines = [line.split(":", 2) for line in read(Path("/proc/self/cgroup")).splitlines()]
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            return CGROUPS / "memory" / path.lstrip("/")
    return CGROUPS / next((path.lstrip("/") for number, _, path in lines if number == "0"), "")


def read(path: Path) -> str:
    """Return a file's text; empty if it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
