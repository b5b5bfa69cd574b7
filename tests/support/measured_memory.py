"""Run a step as it runs alone, in no more address space than it is given, and write down the most that it took.

python -m tests.support.measured_memory peak.txt LIMIT scripts/train/train_model.py ...

LIMIT is in bytes, 0 for none; it holds from the beginning, as `ulimit -v` does. The file gets bytes.
"""

import re
import resource
import runpy
import sys
from pathlib import Path


def peak_address_space() -> int:
    """Return the most address space that this process has had so far, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"^VmPeak:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024


def main() -> None:
    """Run the command line; the exit status is the program's."""
    output, limit, script, *words = sys.argv[1:]
    if int(limit):
        resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
    sys.argv = [script, *words]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        Path(output).write_text(str(peak_address_space()), encoding="ascii")


if __name__ == "__main__":
    main()
