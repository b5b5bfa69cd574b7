"""The whole circle on SmolLM2-135M, the demo's base.

Train, deliver, serve, log answers, correct a record and judge pairs through the review page's server, train again on
the corrected data, let people's votes decide the verdict, and switch over.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.common.files import read_json, read_jsonl
from scripts.deploy.quality_monitor import ABTestMonitor
from tests.support.llama_server import server
from tests.support.project import ROOT, Project
from tests.support.smollm2 import ORIGIN

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
    training: {{max_steps: 2, learning_rate: 1.0e-3, micro_batch: 4, accumulation: 1}}
    quants: [q8_0]
    variants: [base, q8_0]
    generation: {{max_new_tokens: 12, batch_size: 10}}
    parity: {{prompts: 2}}
    score: {{bootstrap: 100, votes: review/votes.jsonl, rival: {rival}}}
    deploy: {{target: {{folder: production{force}}}}}
"""
GATES = """
gates:
  not_worse: {metric: chrf, baseline: base, comparison: above, threshold: -90, runs: [second]}
  people_prefer_it: {metric: win_rate, comparison: above, threshold: 0.5, runs: [second]}
"""


def configuration(second: bool) -> str:
    """Return the configuration: the first run alone, or both runs, the second one on the corrected data."""
    datasets = DATASET.format(name="first", corrections="null")
    runs = RUN.format(name="first", rival="base", force=', force: "the first model there is"')
    if second:
        datasets += DATASET.format(name="second", corrections="review/corrections.jsonl")
        runs += RUN.format(name="second", rival="first/q8_0", force="")
    model = json.dumps({"architecture": "llama", "gguf": ORIGIN, "license": "apache-2.0", "device": "cpu"})
    return f"datasets:{datasets}\nmodels:\n  smollm2: {model}\nruns:{runs}{GATES if second else ''}"


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


def run(project: Project, *arguments: str) -> dict:
    done = project.snakemake("--quiet", "host", "reason", "rules", *arguments)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout
