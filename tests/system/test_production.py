"""A served bundle is tested with a match; a worse one that goes live is rolled back while requests go on."""

import itertools
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from envs import llama_server
from scripts.common.files import read_json, read_jsonl, write_jsonl
from scripts.deploy.build_bundle import write_sums
from scripts.deploy.quality_monitor import ABTestMonitor
from scripts.deploy.release import Releases
from scripts.deploy.soak import ask
from scripts.deploy.soak import main as soak
from scripts.deploy.verify_bundle import Findings, verify_files
from tests.support.llama_server import server
from tests.support.project import ROOT
from tests.support.releases import history, release
from tests.support.served_bundle import smollm2_bundle

QUESTIONS = ("What is a penalty kick?", "Tell me about Paris.", "Say hello.", "How do I make tea?", "What is rain?")
PATIENCE = 300  # seconds until the drill ends
WORSE = "--logit-bias 260+100"  # " the" is by far the most probable token: each answer repeats it


@pytest.fixture(scope="module")
def bundle(smollm2, tmp_path_factory) -> Path:
    """The bundle of SmolLM2; its test split is beside it."""
    assert llama_server.main() == 0
    return smollm2_bundle(smollm2, tmp_path_factory.mktemp("run"), num_ctx=512, temperature=0.0)


def test_half_an_hour_of_a_match_is_played_with_a_served_bundle(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_SERVER", str(llama_server.PROGRAM))
    prompts = tmp_path / "prompts.jsonl"  # of a model whose answers were cut too
    write_jsonl(prompts, [row | {"stop": "length"} for row in read_jsonl(bundle.parent / "test.jsonl")])
    words = [bundle, "--prompts", prompts, "--minutes", "30", "--speed", "90", "--burst", "8", "--p95", "120"]
    words += ["--max-tokens", "24", "--monitor", tmp_path / "monitor.sqlite"]
    assert soak([*map(str, words), "--output", str(tmp_path / "soak.json"), "--log", str(tmp_path / "log")]) == 0
    found = read_json(tmp_path / "soak.json")
    assert (found["passed"], found["reasons"], found["faults"]) == (True, [], {})
    assert found["requests"] == found["answers"] == 46
    assert 0 < found["first_token"]["p95"] <= found["seconds"]["p95"]
    assert found["memory"]["warm_bytes"] > 50_000_000
    report = ABTestMonitor(tmp_path / "monitor.sqlite").get_comparison_report()
    assert (report["new"]["count"], report["new"]["errors"]) == (46, 0)


def worse(bundle: Path, folder: Path) -> Path:
    """Return a copy of a bundle that serves itself with WORSE."""
    copy = shutil.copytree(bundle, folder)
    program = (copy / "serve.sh").read_text()
    assert '$sampling "$@"' in program
    (copy / "serve.sh").write_text(program.replace('$sampling "$@"', f'$sampling {WORSE} "$@"'))
    write_sums(copy)
    return copy


class Readers(threading.Thread):
    """Asks the release that is current, one question after another, and logs each answer to the monitor."""

    def __init__(self, target: Path, urls: dict[str, str], candidate: str, monitor: ABTestMonitor):
        super().__init__(daemon=True)
        self.target, self.urls, self.candidate, self.monitor = target, urls, candidate, monitor
        self.answers, self.is_over = [], threading.Event()

    def run(self) -> None:
        """Ask until the drill is over."""
        for question in itertools.cycle(QUESTIONS):
            if self.is_over.is_set():
                return
            name = read_json(self.target / "current/release.json")["release"]
            port = int(self.urls[name].rpartition(":")[2])
            answer = ask(port, 0, [{"role": "user", "content": question}], max_tokens=16)
            model = "new" if name == self.candidate else "old"
            self.monitor.log_metric(model, answer.text, answer.seconds, answer.fault)
            self.answers.append((name, answer))


def test_a_worse_bundle_that_goes_live_is_rolled_back_while_requests_go_on(bundle, tmp_path):
    target, file = tmp_path / "releases of the match", tmp_path / "monitor.sqlite"
    names = []
    for delivered in (bundle, worse(bundle, tmp_path / "worse")):
        assert release("deliver", delivered, target) == 0
        names.append(Releases(target).current)
    good, bad = names
    findings = Findings()
    assert verify_files(target / "releases" / good, findings)
    assert findings.faults == []
    releases, monitor = target / "releases", ABTestMonitor(file)
    with server(releases / good, PARALLEL=2) as good_url, server(releases / bad, PARALLEL=2) as bad_url:
        readers = Readers(target, {good: good_url, bad: bad_url}, bad, monitor)
        readers.start()
        command = [sys.executable, ROOT / "scripts/deploy/watch.py", file, target, "--candidate", bad]
        command += ["--every", "0.2", "--after", f"echo $DECISION $RELEASE > {tmp_path}/after"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr
        assert Releases(target).current == good
        before, end = len(readers.answers), time.monotonic() + PATIENCE
        while len(readers.answers) < before + 3 and readers.is_alive() and time.monotonic() < end:
            time.sleep(0.1)
        readers.is_over.set()
        readers.join(PATIENCE)
    asked = [name for name, _ in readers.answers]
    assert asked == sorted(asked, key=names[::-1].index), "the good release again after the bad one, and only once"
    assert Counter(asked)[good] >= 2
    assert [answer.fault for _, answer in readers.answers if answer.fault] == []
    assert (tmp_path / "after").read_text() == f"rollback {good}\n"
    moved = history(target)[-1]
    assert (moved["what"], moved["from"], moved["to"]) == ("rollback", bad, good)
    assert re.fullmatch(r"new: repetition is above 0\.35 \(\d+ calls\)", moved["why"])
    words = [sys.executable, bundle / "quality_monitor.py", "report", file, "--page", tmp_path / "page.html"]
    subprocess.run(words, check=True, capture_output=True)
    assert "rollback" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert moved["why"].partition(" (")[0] in (tmp_path / "page.html").read_text(encoding="utf-8")
