"""The workflow as a user of a cluster runs it: Snakemake with the cluster's profile, and the jobs that it submits."""

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tests.support.project import Project
from tests.support.slurm import Slurm

PROFILE = "profiles/slurm"
# What a cluster that is this machine needs otherwise: files are seen at once, and jobs end within seconds.
OPTIONS = (
    "--slurm-init-seconds-before-status-checks",
    "2",
    "--latency-wait",
    "5",
    "--slurm-keep-successful-logs",
)


@contextmanager
def workflow(
    project: Project, slurm: Slurm, *arguments: str, profile: str = PROFILE, environment: dict | None = None
) -> Iterator[subprocess.Popen]:
    """Run snakemake with the cluster's profile while the block runs; it ends with it. Its words go to slurm.log."""
    command = ["snakemake", "--workflow-profile", profile, *OPTIONS, *arguments]
    env_vars = {**slurm.env_vars(), **(environment or {})}
    with open(project.folder / "slurm.log", "w") as log:
        run = subprocess.Popen(command, cwd=project.folder, env=env_vars, stdout=log, stderr=log)
        try:
            yield run
        finally:
            if run.poll() is None:
                run.kill()
                run.wait()


def finish(
    project: Project, slurm: Slurm, *arguments: str, environment: dict | None = None, seconds: float = 900
) -> dict[str, list[dict[str, str]]]:
    """Run snakemake with the cluster's profile to its end, which must be good; return its jobs, by rule or group."""
    before = {job["JobId"] for job in slurm.jobs()}
    with workflow(project, slurm, *arguments, environment=environment) as run:
        assert run.wait(timeout=seconds) == 0, (project.folder / "slurm.log").read_text()[-5000:]
    return jobs_by_rule(job for job in slurm.jobs() if job["JobId"] not in before)


def jobs_by_rule(jobs: Iterable[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Return the jobs of each rule, or group of rules, in the order of their start."""
    found = defaultdict(list)
    for job in sorted(jobs, key=lambda job: int(job["JobId"])):
        found[re.sub(r"^(rule|group)_|_wildcards_.*$", "", job["Comment"])].append(job)
    return found


def replace(project: Project, path: str, old: str, new: str, after: str = "") -> None:
    """Replace a text where it first stands in a file of the project, after another text."""
    text = (project.folder / path).read_text()
    start = text.index(after)
    assert old in text[start:]
    project.write(path, text[:start] + text[start:].replace(old, new, 1))
