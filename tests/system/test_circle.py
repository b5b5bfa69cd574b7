"""The whole circle on SmolLM2-135M, the demo's base.

Train, deliver, serve, log answers, correct a record and judge pairs through the review page's server, train again on
the corrected data, let people's votes decide the verdict, and switch over.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.common.files import read_json, read_jsonl, sha256_of
from scripts.deploy.quality_monitor import ABTestMonitor
from tests.support.llama_server import server
from tests.support.project import ROOT, Project

DATASET = """
  {name}:
    files: [data/train.jsonl]
    test_files: [data/test.jsonl]
    license: CC0-1.0
    language: en
    format: prompt_completion
    splits: {{train: 1.0, validation: 0, test: 0}}
    corrections: {corrections}
"""
RUN = """
  {name}:
    dataset: {name}
    model: smollm2
    lora: {{r: 4, alpha: 8, dropout: 0}}
    tokens: {{max_length: 256}}
    training: {{max_steps: {steps}, learning_rate: 3.0e-3, micro_batch: 4, accumulation: 1}}
    quants: [q8_0]
    variants: [q8_0]
    generation: {{max_new_tokens: 20, batch_size: 12}}
    parity: {{prompts: 2}}
    score: {{bootstrap: 100{votes}}}
    deploy: {{target: {target}}}
"""
CORRECTED = "GOOOAL, and what a goal it was!"
GATES = """
gates:
  people_prefer_it: {metric: win_rate, comparison: above, threshold: 0.5, runs: [second]}
"""


def configuration(base: Path, *runs: str) -> str:
    """Return the configuration with some of the runs; the last of them is delivered. The dataset `second` can be
    corrected.
    """
    files = {"first": "null", "second": "review/corrections.jsonl"}
    datasets = "".join(DATASET.format(name=name, corrections=file) for name, file in files.items())
    steps = {"first": 2, "second": 10}
    votes = {"first": "", "second": ", votes: review/votes.jsonl, rival: first/q8_0"}
    targets = {
        ("first",): {"first": '{folder: production, force: "the first model there is"}'},
        ("first", "second"): {"first": "null", "second": "{folder: production, beside: true}"},
    }[runs]
    sections = "".join(
        RUN.format(name=name, votes=votes[name], steps=steps[name], target=targets[name]) for name in runs
    )
    model = json.dumps({"architecture": "llama", "gguf": {"file": str(base)}, "license": "apache-2.0", "device": "cpu"})
    gates = GATES if "second" in runs else ""
    return f"datasets:{datasets}\nmodels:\n  smollm2: {model}\nruns:{sections}{gates}"


class Review:
    """The review page's server of a project, as a browser asks it."""

    def __init__(self, address: str):
        self.address = address

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(self.address + path, timeout=60) as reply:
            return json.load(reply)

    def post(self, path: str, **body) -> dict:
        headers = {"Content-Type": "application/json", "Origin": self.address}
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)


@contextmanager
def review(project: Project) -> Iterator[Review]:
    """Serve a project's results for review on a free port."""
    command = [sys.executable, "scripts/review/serve.py", "results", "--folder", "review", "--port", "0"]
    with subprocess.Popen(command, cwd=project.folder, stdout=subprocess.PIPE, text=True) as program:
        try:
            address = next(word for line in program.stdout for word in line.split() if word.startswith("http://"))
            yield Review(address.rstrip("/"))
        finally:
            program.terminate()


def run(project: Project, *arguments: str) -> str:
    """Run snakemake in a project; return what it printed."""
    done = project.snakemake(*arguments, "--quiet", "host", "reason")
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def program(project: Project, name: str, *arguments: str) -> str:
    """Run a program of a project; return what it printed."""
    command = [sys.executable, f"scripts/{name}.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(address: str, messages: list[dict], length: int) -> str:
    """Return the answer of a served bundle, of at most `length` tokens."""
    body = json.dumps({"messages": messages, "max_tokens": length}).encode()
    request = urllib.request.Request(f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]


def current(project: Project) -> str:
    """Return the name of the release that is current."""
    return os.path.basename(os.readlink(project.folder / "production/current"))


def judge_all(page: Review, study: str, reader: str, preferred: set[str]) -> int:
    """Vote on every task of a study of pairs for the text that is preferred; return the number of votes."""
    count = 0
    while (task := page.get(f"/api/task?study={study}&reader={reader}"))["task"]:
        choice = "first" if task["texts"][0] in preferred else "second"
        page.post("/api/votes", task=task["task"], reader=reader, choice=choice)
        count += 1
    return count


@pytest.fixture(scope="module")
def circle(smollm2, tmp_path_factory):
    """A project in which the circle has been played, and what was seen on the way."""
    project, seen = Project.made_in(tmp_path_factory.mktemp("circle")), {}
    for split in ("train", "test"):
        lines = (ROOT / f"data/captions/{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        project.write(f"data/{split}.jsonl", "".join(lines[:12]))

    # The first model is trained and delivered, and the second dataset is read.
    project.write("config/config.yaml", configuration(smollm2, "first"))
    run(project)
    run(project, "deliver")
    seen["first"] = current(project)

    # Readers correct a record of the second dataset.
    with review(project) as page:
        record = page.get("/api/records?collection=dataset/second/train")["records"][0]["id"]
        said = {"collection": "dataset/second/train", "id": record, "action": "replace", "text": CORRECTED}
        proposed = page.post("/api/corrections", reader="anna", comment="too flat", **said)
        page.post(f"/api/corrections/{proposed['id']}", reader="bao", status="accepted")
        page.post("/api/export")

    # The second model is trained on the corrected data; nobody has judged it.
    project.write("config/config.yaml", configuration(smollm2, "first", "second"))
    run(project)
    seen["unjudged"] = read_json(project.folder / "results/runs/second/verdict.json")

    # Two readers prefer its answers; their votes decide the verdict, and nothing is trained again.
    rows = list(read_jsonl(project.folder / "results/runs/second/answers/q8_0.jsonl"))
    preferred = {row["answer"].strip() for row in rows}
    with review(project) as page:
        sides = {"left": "second/q8_0", "right": "first/q8_0"}
        study = page.post("/api/studies", reader="anna", kind="pair", readers=2, overlap=1, **sides)
        seen["study"] = study
        seen["votes"] = [judge_all(page, study["id"], reader, preferred) for reader in ("anna", "bao")]
        page.post("/api/export")
    seen["planned"] = project.planned()
    run(project)
    run(project, "deliver")
    seen["releases"] = sorted(path.name for path in (project.folder / "production/releases").iterdir())

    # Both are served side by side; the monitor sees real answers until it decides, and the link follows.
    monitor = ABTestMonitor(project.folder / "monitor.sqlite", models=("first", "second"), longest=20)
    [candidate] = set(seen["releases"]) - {seen["first"]}
    folders = {
        "first": project.folder / "production/current",
        "second": project.folder / "production/releases" / candidate,
    }
    for model, folder in folders.items():
        with server(folder) as address:
            answers = [ask(address, row["messages"], (5, 12, 20)[place % 3]) for place, row in enumerate(rows)]
            for text in answers * 20:
                monitor.log_metric(model=model, text=text, gen_time=0.5)
    seen["candidate"], seen["decision"] = candidate, monitor.decision()
    program(project, "deploy/watch", "monitor.sqlite", "production", "--candidate", candidate, "--once")
    return project, seen


def test_a_correction_is_trained_on_and_the_ledger_says_who_made_it(circle):
    project, _ = circle
    rows = read_jsonl(project.folder / "results/datasets/second/train.jsonl")
    assert [row["messages"][-1]["content"] for row in rows].count(CORRECTED) == 1
    ledger = (project.folder / "results/datasets/second/ledger.html").read_text(encoding="utf-8")
    assert "anna" in ledger
    assert "bao" in ledger
    assert CORRECTED not in (project.folder / "data/train.jsonl").read_text(encoding="utf-8")


def test_the_verdict_waits_for_votes_and_then_follows_them(circle):
    project, seen = circle
    gates = {gate["name"]: gate for gate in seen["unjudged"]["gates"]}
    assert seen["unjudged"]["verdict"] == "hold"
    assert gates["people_prefer_it"]["outcome"] == "not measured"
    assert "make review" in gates["people_prefer_it"]["reason"]
    verdict = read_json(project.folder / "results/runs/second/verdict.json")
    assert verdict["verdict"] == "promote", verdict
    assert seen["votes"][0] >= seen["study"]["records"]


def test_votes_train_nothing_again(circle):
    _, seen = circle
    assert set(seen["planned"]) == {
        "score_answers", "decide_verdict", "write_run_report", "write_leaderboard", "build_bundle",
    }  # fmt: skip


def test_the_bundle_names_the_votes_and_the_corrections(circle):
    project, _ = circle
    read = read_json(project.folder / "results/runs/second/bundle/provenance.json")["files"]
    for key, name in (("run.score.votes", "votes"), ("dataset.corrections", "corrections")):
        assert read[key]["sha256"] == sha256_of(project.folder / f"review/{name}.jsonl")


def test_the_monitor_switches_over_and_the_history_says_why(circle):
    project, seen = circle
    assert seen["decision"]["decision"] == "switch", seen["decision"]
    assert current(project) == seen["candidate"] != seen["first"]
    last = list(read_jsonl(project.folder / "production/history.jsonl"))[-1]
    assert (last["what"], last["from"], last["to"]) == ("switch", seen["first"], seen["candidate"])
    assert last["why"] == seen["decision"]["reason"]


def test_a_judge_model_is_compared_with_people(circle):
    """The served model is a poor judge; its votes are kept apart from those of people."""
    project, seen = circle
    with server(project.folder / "production/current") as address:
        words = ("--url", f"{address}/v1", "--model", "smollm2", "--study", seen["study"]["id"], "--folder", "review")
        printed = program(project, "review/judge_model", *words)
    assert "what most people say of" in printed
    program(project, "review/exports", "--folder", "review")
    votes = list(read_jsonl(project.folder / "review/votes.jsonl"))
    assert {row["reader"] for row in votes if row["is_model"]} == {"model:smollm2"}
    assert {row["reader"] for row in votes if not row["is_model"]} == {"anna", "bao"}
