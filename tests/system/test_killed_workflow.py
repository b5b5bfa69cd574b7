"""A workflow whose whole process tree is killed again and again ends as one that nobody disturbed.

Each of the snakemakes is killed at a random moment of a step that is still to be hit: at any time while it runs, or
just after it began to write something. SEED in the environment repeats a series of moments.
"""

import os
import random
import time
from collections import Counter

import pytest

from tests.support.process_tree import RunningWorkflow
from tests.support.project import Project
from tests.support.same_results import content, contents, results

# Long enough that there are moments to hit: optimizer steps with checkpoints, dropout, a second quant.
EDITS = {
    "max_steps: 2, micro_batch: 2": "max_steps: 12, checkpoint_steps: 3, micro_batch: 2",
    "r: 4, alpha: 8": "r: 4, alpha: 8, dropout: 0.1",
    "quants: [bf16]": "quants: [bf16, q8_0]",
}
KILLS = {
    "ingest_records": 1, "split_records": 1,
    "build_embedded_model": 2,
    "tokenize_conversations": 1, "train_model": 3, "merge_adapter": 1,
    "convert_to_gguf": 1, "quantize_gguf": 1, "check_parity": 1,
    "predict_with_transformers": 1, "predict_with_llama": 1,
    "score_answers": 1, "decide_verdict": 1,
    "build_bundle": 2,
}  # fmt: skip
STAGES = ("dataset", "model", "train", "gguf", "predict", "score", "deploy")
LEAST_KILLS, LEAST_HITS = 12, 1  # in all, and of each stage


def edited(project: Project) -> Project:
    """Give a project the test's own configuration."""
    for old, new in EDITS.items():
        with_edit = (project.folder / "config/config.yaml").read_text(encoding="utf-8").replace(old, new)
        assert new in with_edit
        project.write("config/config.yaml", with_edit)
    return project


@pytest.fixture(scope="module")
def undisturbed(finished, tmp_path_factory) -> Project:
    """The project, done without any disturbance; what its configuration leaves alone is done already."""
    project = edited(finished.copy(tmp_path_factory.mktemp("undisturbed") / "project"))
    done = project.snakemake("--quiet", "host", "reason", "rules")
    assert done.returncode == 0, done.stdout
    return project


def exact(name: str) -> bool:
    """Say whether a file is the same, byte for byte, in each run."""
    return name.endswith((".safetensors", ".gguf", ".arrow", ".parquet", ".model", "Modelfile", "_config.json")) or (
        name.startswith("results/datasets/") and name.endswith(".jsonl")
    )


class Killer:
    """Kills workflows in a folder until each step was hit as often as it should be."""

    def __init__(self, project: Project, durations: dict[str, float], seed: int):
        self.project, self.durations, self.moments = project, durations, random.Random(seed)
        self.left, self.hits, self.kills = Counter(KILLS), Counter(), 0

    def partials(self) -> set:
        """Return what is being written."""
        return set((self.project.folder / "results").rglob("*.partial"))

    def wait(self, workflow: RunningWorkflow, step: str, pid: int) -> None:
        """Wait for a moment to kill in, in the course of a step."""
        before = KILLS[step] - self.left[step]
        if before < 2 or self.moments.random() < 0.5:
            # The first time early, lest a step that goes faster than it did is never hit.
            time.sleep(self.moments.uniform(0, (0.5 if before else 0.1) * self.durations[step]))
            return
        before, end = self.partials(), time.monotonic() + 2 * self.durations[step] + 5
        while pid in workflow.steps() and time.monotonic() < end and not self.partials() - before:
            time.sleep(0.001)
        time.sleep(self.moments.uniform(0, 0.03))

    def run_once(self) -> bool:
        """Start the workflow and kill it; say whether it ended before there was anything left to hit."""
        workflow = RunningWorkflow(self.project.folder)
        while workflow.alive():
            wanted = [(pid, step) for pid, (_, step) in workflow.steps().items() if self.left[step] > 0]
            if wanted:
                pid, step = self.moments.choice(wanted)
                self.wait(workflow, step, pid)
                if not workflow.alive():
                    break
                steps = workflow.kill_tree()
                self.kills += 1
                self.hits.update(stage for stage, _ in steps)
                self.left.subtract(name for _, name in steps)
                return False
            time.sleep(0.01)
        assert workflow.finish() == 0, workflow.said()
        return True


def steps_and_seconds(project: Project) -> dict[str, float]:
    """Return how long each step took in a done project, in seconds; of several jobs the longest."""
    seconds: dict[str, float] = {}
    for path in project.files("results/benchmarks"):
        rule = path.relative_to(project.folder / "results/benchmarks").parts[1].removesuffix(".tsv")
        row = path.read_text(encoding="utf-8").splitlines()[1].split("\t")
        step = {"train_adapter": "train_model"}.get(rule, rule)
        seconds[step] = max(seconds.get(step, 0), float(row[0]))
    return seconds


def test_a_workflow_killed_at_random_moments_ends_as_an_undisturbed_one(undisturbed, tmp_path):
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"SEED={seed}")
    (tmp_path / "killed").mkdir()
    project = edited(Project.made_in(tmp_path / "killed"))
    killer = Killer(project, steps_and_seconds(undisturbed), seed)
    expected = {name: content(path) for name, path in results(undisturbed.folder).items()}
    while not killer.run_once():
        there = results(project.folder)
        whole = [name for name in there if exact(name) and "/checkpoints/" not in name and ".partial" not in name]
        assert [name for name in whole if content(there[name]) != expected.get(name)] == [], f"kill {killer.kills}"
    print(f"{killer.kills} kills, {dict(killer.hits)}")
    assert killer.kills >= LEAST_KILLS
    assert {stage: killer.hits[stage] for stage in STAGES if killer.hits[stage] < LEAST_HITS} == {}

    assert results(project.folder).keys() == expected.keys()
    assert [name for name, found in contents(project.folder).items() if found != expected[name]] == []
    assert list(project.files(".snakemake/incomplete")) == []
    assert not list((project.folder / ".snakemake/locks").glob("*"))
    assert project.planned() == Counter()
