"""Make Snakemake plan many jobs in less time: a sweep of a thousand runs has 20,000 of them.

Written for Snakemake 9.27, which calls some ten functions of a rule for each job, and inspects the signature of each
three times a call. A dry run also formats the command of each job three times, whether it is shown or not. And Python's
garbage collector walks over all jobs again and again, though a plan keeps them to the end, and once more at the end of
the process. Another version of Snakemake keeps its own functions: its plans take longer, and are right.
"""

import atexit
import functools
import gc
from collections.abc import Callable
from typing import Any

WRITTEN_FOR = "9.27."
# A collection of the youngest objects after so many new ones (Python: 700, 10, 10); of all objects hardly ever.
THRESHOLDS = 200_000, 50, 100


def speed_up_plans(dry_run: bool) -> None:
    """Make this process collect garbage less often, and Snakemake remember signatures and a dry run's commands."""
    import snakemake
    import snakemake.common
    import snakemake.rules
    from snakemake.jobs import Job

    gc.set_threshold(*THRESHOLDS)
    atexit.register(gc.freeze)  # the end of the process then frees its memory without a last collection
    inspected = snakemake.common.get_function_params
    if not snakemake.__version__.startswith(WRITTEN_FOR) or hasattr(inspected, "__wrapped__"):
        return
    snakemake.common.get_function_params = snakemake.rules.get_function_params = remembering(inspected)
    if dry_run:
        command = Job.shellcmd.fget

        def shellcmd(job: Any) -> str | None:
            if not hasattr(job, "shown_command"):
                job.shown_command = command(job)
            return job.shown_command

        Job.shellcmd = property(shellcmd)


def remembering(function: Callable) -> Callable:
    """Return a function of one value that computes its result once for each value; each time, if that has no hash."""
    cached = functools.cache(function)

    @functools.wraps(function)
    def result(value: Any) -> Any:
        try:
            return cached(value)
        except TypeError:
            return function(value)

    return result
