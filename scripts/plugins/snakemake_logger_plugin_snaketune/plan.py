"""The output of a dry run: the jobs by stage and rule, and why jobs that ran before would run again."""

import textwrap
from pathlib import Path
from typing import NamedTuple

WIDTH = 110
MOST_REASONS = 6
STAGES = ("collect", "dataset", "model", "train", "gguf", "predict", "score", "deploy")
TARGETS = (
    "all",
    "collect",
    "extract",
    "deliver",
    "soak",
)  # rules that only name what is wanted; they are not counted as jobs
# Reasons that follow from those of other jobs, or from a first run.
PLAIN = ("Missing output files", "Input files updated by another job")


class PlannedJob(NamedTuple):
    """A job of a dry run."""

    rule: str
    log: str
    reason: str

    @property
    def stage(self) -> str:
        """The stage of the job: logs are `<logs>/<stage>/<rule>/<wildcards>.log` or `<logs>/<stage>/<rule>.log`."""
        parts = Path(self.log).with_suffix("").parts
        return parts[parts.index(self.rule) - 1] if self.rule in parts[1:] else "other"


def plan_lines(counts: dict[str, int], jobs: list[PlannedJob]) -> list[str]:
    """Return the lines of a plan. `counts` has the number of jobs by rule, and their `total`."""
    rules = {rule: count for rule, count in counts.items() if rule not in (*TARGETS, "total")}
    stages: dict[str, list[str]] = {}
    for rule in dict.fromkeys([*(job.rule for job in jobs if job.rule in rules), *rules]):
        stage = next((job.stage for job in jobs if job.rule == rule), "other")
        stages.setdefault(stage, []).append(f"{rule} {rules[rule]}")
    lines = [f"{sum(rules.values())} jobs would run:"]
    for stage, named in sorted(stages.items(), key=lambda item: STAGES.index(item[0]) if item[0] in STAGES else -1):
        # Don't break a line between a rule and its number.
        text = ", ".join(named).replace(" ", "\0").replace(",\0", ", ")
        indent = {"initial_indent": f"  {stage:<8} ", "subsequent_indent": " " * 11}
        lines += [line.replace("\0", " ") for line in textwrap.wrap(text, WIDTH, **indent)]
    return lines + reason_lines(jobs)


def reason_lines(jobs: list[PlannedJob]) -> list[str]:
    """Return a line for each rule with a reason to run again that is not in PLAIN."""
    reasons = {}
    for job in jobs:
        own = [part for part in job.reason.split("; ") if not part.startswith(PLAIN)]
        if own and not job.reason.startswith(PLAIN):
            reasons.setdefault(job.rule, textwrap.shorten(own[0].splitlines()[0], WIDTH, placeholder=" ..."))
    more = len(reasons) - MOST_REASONS
    lines = [f"  {rule}: {reason}" for rule, reason in list(reasons.items())[:MOST_REASONS]]
    return ["Because:", *lines, *([f"  and {more} more rules; -p shows each job"] if more > 0 else [])] if lines else []
