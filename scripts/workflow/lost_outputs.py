"""Make again what a failed or killed step lost.

Snakemake deletes the outputs of a job when it starts and when it fails, and records the new settings and input
checksums of the failed job as if it had succeeded (snakemake#3808). The next run plans from the final files backwards:
a missing intermediate file alone is no reason to run (snakemake#1978, #2966). So a failed step was forgotten as soon as
the files that depend on it were there from an earlier run. Here an output counts as lost when it is missing while its
checksum file, which Snakemake does not know, is still there. Written for Snakemake 9.27: `DAG.update_needrun` decides
which jobs run, and always runs those with an output in `DAG.forcefiles`.
"""

import os

from scripts.common.checksums import checksum_path


def is_lost(path: str) -> bool:
    """Say whether a step made this file once, and it is gone."""
    return not os.path.exists(path) and checksum_path(path).exists()


def remake_lost_outputs() -> None:
    """Have this process's Snakemake run each job of a target that has a lost output, and all that depends on it."""
    from snakemake.dag import DAG

    plan = DAG.update_needrun

    async def update_needrun(dag, *arguments, **options):
        dag.forcefiles.update(file for job in dag.jobs for file in job.output if is_lost(file))
        await plan(dag, *arguments, **options)

    DAG.update_needrun = update_needrun
