"""Make the lost outputs of failed or killed steps again.

Snakemake deletes the outputs of a job when it starts and when it fails, and records the new settings and input
checksums of a failed job as if it had succeeded (snakemake#3808). The next run plans backwards from the final files,
and a missing intermediate file alone does not trigger its job (snakemake#1978, #2966). So Snakemake would not repeat a
failed step if the files that depend on it exist from an earlier run.

Here an output counts as lost if it is missing but its checksum file, which Snakemake does not know, exists. Written for
Snakemake 9.27: `DAG.update_needrun` decides which jobs run, and always runs jobs with an output in `DAG.forcefiles`.
"""

import os

from scripts.common.checksums import checksum_path


def is_lost(path: str) -> bool:
    """Return whether a step made this file earlier and it is now missing."""
    return not os.path.exists(path) and checksum_path(path).exists()


def remake_lost_outputs() -> None:
    """Make Snakemake in this process run each required job with a lost output, and all jobs that depend on it."""
    from snakemake.dag import DAG

    plan = DAG.update_needrun

    async def update_needrun(dag, *arguments, **options):
        dag.forcefiles.update(file for job in dag.jobs for file in job.output if is_lost(file))
        await plan(dag, *arguments, **options)

    DAG.update_needrun = update_needrun
