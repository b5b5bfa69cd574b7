"""Simulate a sweep of a 7B on a Slurm cluster: how long it takes, and where GPU time is lost.

python -m tests.benchmarks.scale.simulate_cluster                  # writes the table into docs/explanation/scale.md
python -m tests.benchmarks.scale.simulate_cluster --demo results   # the same, after taking the seconds of a demo

The jobs and what they wait for are those of a dry run of recipe `football` as a sweep. The seconds of steps that a
model's size does not change are those of a finished demo (demo_seconds.json); those of a 7B are derived (`costs`), not
measured.
"""

import argparse
import heapq
import json
import math
import random
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.benchmarks.bench_times import processor

ROOT = Path(__file__).resolve().parents[3]
PARAMETERS, PEAK = 7.25e9, 989e12  # Mistral 7B; dense bf16 FLOP/s of an H100 (NVIDIA's data sheet)
TOKENS = 10_000 * 512 * 3  # rows x tokens x epochs of a training
PROMPTS, ANSWER, BATCH = 500, 96, 16  # of each variant
TIMED = 10  # answers that llama.cpp makes one at a time; the simulated runs have no gate on their seconds
WEIGHTS = 14.5  # GB in 16 bits
GGUF = {"bf16": 14.5, "q8_0": 7.7, "q4_k_m": 4.4}  # GB
PAGE = ROOT / "docs/explanation/scale.md"
BEGIN, END = "<!-- made by simulate_cluster -->\n", "<!-- end -->\n"
DEMO = Path(__file__).with_name("demo_seconds.json")
FIELDS = re.compile(r"^    (\w+): (.*)$", re.MULTILINE)


class Job(NamedTuple):
    """A job of the plan: rule, run (None: of all runs), variant or quant, the jobs it waits for, and what it holds."""

    rule: str
    run: str | None
    variant: str
    needs: tuple[int, ...]
    gpus: int = 0
    priority: int = 0


class Cost(NamedTuple):
    """Seconds of work, and GB that it reads and writes on the shared file system."""

    work: float
    gigabytes: float = 0.0


@dataclass
class Cluster:
    """What the simulated cluster has; seconds, GB/s, and failures by hour of a running job."""

    gpus: int = 64
    cpu_jobs: int = 128  # jobs without a GPU that run at once
    queue: int = 200  # `jobs` of profiles/slurm
    start: float = 30  # container, environment, imports
    submit: float = 0.1  # of one sbatch, one after the other
    schedule: float = 5  # until Slurm starts a job that has room
    poll: float = 15  # seconds-between-status-checks of profiles/slurm
    bandwidth: float = 5
    mfu: float = 0.45
    llama: float = 100  # GB/s at which llama.cpp reads the weights for each token: a CPU's memory
    at_once: int = 9  # sequences of 608 tokens in 1 GiB of a 7B's cache: a reading of the weights serves all of them
    failures: float = 0.001
    seed: int = 0


def planned(text: str) -> list[Job]:
    """Return the jobs of a dry run's output, without the target; a job waits for those whose outputs it reads."""
    found = {}
    for block in re.split(r"^(?=(?:local)?rule \w+:$)", text, flags=re.MULTILINE)[1:]:
        values, rule = dict(FIELDS.findall(block)), re.match(r"(?:local)?rule (\w+):", block)[1]
        if rule != "all":
            found.setdefault((rule, values.get("output", "")), {"rule": rule, **values})
    files = {key: set(each.get("input", "").split(", ")) for key, each in found.items()}
    ordered, made = [], {file: key for key, each in found.items() for file in each.get("output", "").split(", ")}
    while found:  # Snakemake's order is another in each call: here all jobs come that read nothing of those left
        free = sorted(key for key in found if not any(made.get(file) in found for file in files[key]))
        ordered += [found.pop(key) for key in free]
    makers = {file: place for place, each in enumerate(ordered) for file in each.get("output", "").split(", ")}
    jobs = []
    for values in ordered:
        wildcards = dict(word.split("=", 1) for word in values.get("wildcards", "").split(", ") if word)
        needs = tuple(sorted({makers[name] for name in values.get("input", "").split(", ") if name in makers}))
        gpus = re.search(r"\bgpu=(\d+)", values.get("resources", ""))
        variant = wildcards.get("variant") or wildcards.get("quant") or ""
        numbers = int(gpus[1]) if gpus else 0, int(values.get("priority", 0))
        jobs.append(Job(values["rule"], wildcards.get("run"), variant, needs, *numbers))
    return jobs


def repeated(jobs: list[Job], runs: int) -> list[Job]:
    """Return the plan of so many runs, from that of a few: each run has the jobs of the first one."""
    first = next(job.run for job in jobs if job.run)
    kept = [number for number, job in enumerate(jobs) if job.run in (None, first)]
    places, count = {}, 0
    for number in kept:
        copies = 1 if jobs[number].run is None else runs
        places[number] = range(count, count + copies)
        count += copies
    result = []
    for number in kept:
        job = jobs[number]
        for copy in range(len(places[number])):
            needs = []
            for need in (need for need in job.needs if need in places):
                own = jobs[need].run is not None and job.run is not None
                needs += [places[need][copy]] if own else places[need]
            result.append(job._replace(run=job.run and str(copy), needs=tuple(needs)))
    return result


def demo_seconds(results: Path) -> dict[str, float]:
    """Return the mean seconds of each rule in a finished demo, from the tables of Snakemake's benchmarks."""
    found: dict[str, list[float]] = {}
    folder = results / "benchmarks"
    for path in folder.rglob("*.tsv"):
        rule = path.relative_to(folder).with_suffix("").parts[1]
        found.setdefault(rule, []).append(float(path.read_text(encoding="utf-8").splitlines()[1].split()[0]))
    return {rule: statistics.fmean(seconds) for rule, seconds in found.items()}


def costs(job: Job, demo: dict[str, float], cluster: Cluster) -> Cost:
    """Return the cost of a job for a 7B: derived where the model counts, else the demo's.

    Training: 4 FLOP a parameter and token (LoRA; frozen weights have no gradient). Answers with transformers: a step
    of a batch takes 30 ms. llama.cpp reads the file for each token of the prompts that it answers at once. Merge,
    conversion and quantization: 1 GB/s of what they read and write. Parity: a minute.
    """
    kind = job.rule
    if kind.startswith("train_"):
        return Cost(4 * PARAMETERS * TOKENS / (cluster.mfu * PEAK), WEIGHTS)
    if kind.endswith("with_transformers"):
        return Cost(-(-PROMPTS // BATCH) * ANSWER * 0.03, WEIGHTS)
    if kind.endswith("with_llama"):
        prompts = PROMPTS // 10 if "validation" in kind else PROMPTS
        timed = min(TIMED, prompts)
        readings = ANSWER * (timed + (prompts - timed) / cluster.at_once)
        return Cost(readings * GGUF[job.variant] / cluster.llama, GGUF[job.variant])
    if kind in ("merge_adapter", "convert_to_gguf"):
        return Cost(2 * WEIGHTS, 2 * WEIGHTS)
    if kind == "quantize_gguf":
        size = WEIGHTS + GGUF[job.variant]
        return Cost(size, size)
    if kind == "check_parity":
        return Cost(60, 2 * WEIGHTS)
    return Cost(demo.get(kind.replace("_validation", "_answers"), 1.0))


RUNS = 1000
CHANGES: dict[str, dict[str, float]] = {
    "nothing": {},
    "MFU 30 %": {"mfu": 0.3},
    "file system 1 GB/s": {"bandwidth": 1},
    "file system 20 GB/s": {"bandwidth": 20},
    "job start 5 s": {"start": 5},
    "job start 120 s": {"start": 120},
    "`jobs: 2000`": {"queue": 2000},
    "llama.cpp answers one prompt at a time": {"at_once": 1},
    "llama.cpp on the GPU": {"llama": 1500},
    "the last, `jobs: 2000` and 20 GB/s": {"llama": 1500, "queue": 2000, "bandwidth": 20},
}


@dataclass
class Outcome:
    """Seconds until the end, GPU seconds by what happened in them, and the number of failures."""

    seconds: float = 0
    failed: int = 0
    gpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("start", "files", "lost"), 0.0))


def simulate(jobs: list[Job], cost_of: list[Cost], cluster: Cluster) -> Outcome:
    """Run the jobs on the cluster. All transfers share the file system's bandwidth equally; a failed job runs again."""
    source, outcome, order = random.Random(cluster.seed), Outcome(), iter(range(10**9))
    waiting, users = [len(job.needs) for job in jobs], [[] for _ in jobs]
    for number, job in enumerate(jobs):
        for need in job.needs:
            users[need].append(number)
    ready = [(-job.priority, number) for number, job in enumerate(jobs) if not waiting[number]]
    heapq.heapify(ready)
    pending, events, flows = {True: [], False: []}, [], []
    free = {True: cluster.gpus, False: cluster.cpu_jobs}
    began: dict[int, float] = {}
    now = served = submitter = 0.0
    queued = 0

    def later(seconds: float, what: str, number: int) -> None:
        heapq.heappush(events, (now + seconds, next(order), what, number))

    def account(number: int, what: str, seconds: float) -> None:
        if jobs[number].gpus:
            outcome.gpu[what] = outcome.gpu.get(what, 0) + seconds

    while True:
        while ready and queued < cluster.queue:
            _, number = heapq.heappop(ready)
            submitter, queued = max(submitter, now) + cluster.submit, queued + 1
            later(submitter - now, "submitted", number)
        for kind, line in pending.items():
            while line and free[kind]:
                free[kind] -= 1
                later(cluster.schedule, "started", heapq.heappop(line))
        rate = cluster.bandwidth / max(len(flows), 1)
        transfer = now + (flows[0][0] - served) / rate if flows else float("inf")
        if not events and not flows:
            break
        if flows and (not events or transfer <= events[0][0]):
            served, now = flows[0][0], transfer
            _, number = heapq.heappop(flows)
            account(number, "files", now - began[number])
            work, what = cost_of[number].work, "worked"
            if source.random() > math.exp(-cluster.failures * work / 3600):
                work, what = work * source.random(), "failed"
                outcome.failed += 1
            account(number, "lost" if what == "failed" else jobs[number].rule, work)
            later(work, what, number)
            continue
        served += (events[0][0] - now) * rate if flows else 0
        now, _, what, number = heapq.heappop(events)
        kind = bool(jobs[number].gpus)
        if what == "submitted":
            heapq.heappush(pending[kind], number)
        elif what == "started":
            account(number, "start", cluster.start)
            later(cluster.start, "reads", number)
        elif what == "reads":
            began[number] = now
            heapq.heappush(flows, (served + cost_of[number].gigabytes, number))
        elif what == "failed":
            free[kind] += 1
            heapq.heappush(pending[kind], number)
        elif what == "worked":
            free[kind] += 1
            later(cluster.poll - now % cluster.poll, "seen", number)
        else:
            queued -= 1
            for user in users[number]:
                waiting[user] -= 1
                if not waiting[user]:
                    heapq.heappush(ready, (-jobs[user].priority, user))
    outcome.seconds = now
    return outcome


def dry_run() -> str:
    """Return what a dry run of recipe `football` prints as a sweep of two learning rates."""
    config = yaml.safe_load((ROOT / "config/recipes/football.yaml").read_text(encoding="utf-8"))
    config["runs"]["football"]["sweep"] = {"training.learning_rate": [1e-4, 2e-4]}
    with tempfile.TemporaryDirectory() as folder:
        config["pathvars"] = {"results": f"{folder}/results"}
        path = Path(folder, "sweep.yaml")
        path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        words = ["--workflow-profile", "none", "--configfile", str(path), "-n", "--cores", "64"]
        command = [sys.executable, "-m", "snakemake", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def line(name: str, outcome: Outcome, gpus: int) -> str:
    """Return a row of the table: hours, and shares of all GPU time in per cent."""
    total = outcome.seconds * gpus
    share = {key: 100 * seconds / total for key, seconds in outcome.gpu.items()}
    llama = sum(value for key, value in share.items() if key.endswith("with_llama"))
    training = sum(value for key, value in share.items() if key.startswith("train_"))
    others = sum(share.values()) - llama - training - share["start"] - share["files"] - share["lost"]
    cells = (training, others, llama, share["start"], share["files"], share["lost"], 100 - sum(share.values()))
    return f"| {name} | {outcome.seconds / 3600:.1f} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |"


def table(runs: int) -> str:
    """Return the table of a sweep of so many runs: a row for each change of the cluster."""
    plan, demo = repeated(planned(dry_run()), runs), json.loads(DEMO.read_text(encoding="utf-8"))["seconds"]
    rows = [
        "| changed | hours | training | other answers | llama.cpp | start | files | failed | idle |",
        "|---" * 9 + "|",
    ]
    for name, change in CHANGES.items():
        cluster = replace(Cluster(), **change)
        rows.append(line(name, simulate(plan, [costs(job, demo, cluster) for job in plan], cluster), cluster.gpus))
    return "\n".join(rows) + "\n"


def table_of_page() -> str:
    """Return the table that the page has."""
    return PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def main(argv=None) -> int:
    """Print the table; for 1,000 runs also write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="results folder of a finished demo, whose seconds are kept first")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of the sweep")
    arguments = parser.parse_args(argv)
    if arguments.demo:
        seconds = {rule: round(value, 1) for rule, value in sorted(demo_seconds(arguments.demo).items())}
        text = json.dumps({"processor": processor(), "seconds": seconds}, indent=1)
        DEMO.write_text(text + "\n", encoding="utf-8")
    found = table(arguments.runs)
    print(found, end="")
    if arguments.runs == RUNS:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(text.replace(f"{BEGIN}{table_of_page()}{END}", f"{BEGIN}{found}{END}"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
