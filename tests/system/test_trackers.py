"""Real trackers: a training that is killed and resumed, and its verdict, are one run in each, with nothing missing."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest

from scripts.common.files import read_json, read_jsonl, sha256_of, write_json
from scripts.common.tracking import Tracking
from scripts.train.tokenize_conversations import tokenize_dataset
from tests.support.gpu import program
from tests.support.needs import MUST_RUN
from tests.support.secrets import PLANTED, traces
from tests.support.span_data import head_settings
from tests.support.tracked import READERS
from tests.support.training import make_data, make_dataset, run_settings

if not all(map(find_spec, READERS)) and not os.environ.get(MUST_RUN):
    pytest.skip("the trackers are not installed here; `make trackers` installs them", allow_module_level=True)

LONG = {"epochs": 12, "micro_batch": 1, "logging_steps": 3, "checkpoint_steps": 5, "report_to": [*READERS]}
SETTINGS = run_settings(training=LONG)
PATIENCE = 300  # seconds for what takes a few where nothing else computes
SCORES = {"value": 21.5, "low": 20.25, "high": 22.75, "n": 108}
GATE = {"name": "nearer", "outcome": "passed", "reason": "chrF of q8_0 is 21.5: above 20"}
VERDICT = {"verdict": "promote", "reason": "every gate passed", "advice": "Ship q8_0.", "shipped": "q8_0"}


class Run:
    """A run in a results folder; its steps run as programs, in a working directory and a home without trackers."""

    def __init__(self, folder: Path, base: Path, tokens: Path, settings: dict, script: str = "train/train_model.py"):
        self.folder, self.base, self.settings = folder, base, settings
        self.trackers, self.work = folder.parents[1] / "trackers", folder.parents[2] / "work"
        self.words = [
            script, tokens, "--base", base, "--checkpoints", folder / "checkpoints", "--output", folder / "adapter",
            "--curve", folder / "curve.jsonl", "--facts", folder / "training.json", "--log", folder / "log",
            "--threads", 1, "--settings", json.dumps(settings),
        ]  # fmt: skip

    def start(self, *words: object, **variables: str) -> subprocess.Popen:
        """Start the program of a step."""
        self.work.mkdir(exist_ok=True)
        command, environment = program(*words, gpu=False)
        environment |= {**PLANTED, "HOME": str(self.work), "WANDB_MODE": "offline", **variables}
        return subprocess.Popen(command, env=environment, cwd=self.work, stderr=subprocess.PIPE, text=True)

    def end(self, process: subprocess.Popen) -> str:
        """Wait for the end of a step; return what it said on the terminal."""
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        return said

    def record(self) -> dict:
        """Return what is noted about the tracked runs."""
        path = self.trackers / f"{self.folder.name}.json"
        return read_json(path) if path.is_file() else {}

    def report(self, **variables: str) -> str:
        """Run the step after the verdict; return what it said."""
        folder, sections = self.folder, {"run_key": self.folder.name, "run": self.settings}
        for variant in ("base", "q8_0"):
            scores = {"variant": variant, "own_metrics": {}, "metrics": {"chrf": SCORES, "bleu": None}}
            write_json(folder / f"scores/{variant}.json", scores)
        write_json(folder / "verdict.json", {**VERDICT, "gates": [GATE]})
        return self.end(
            self.start(
                "score/report_to_trackers.py", "--scores", *sorted(folder.glob("scores/*.json")),
                "--verdict", folder / "verdict.json", "--base", self.base,
                "--curve", folder / "curve.jsonl", "--training", folder / "training.json",
                "--splits", folder / "verdict.json", "--tracked", folder / "tracked.json", "--log", folder / "log",
                "--settings", json.dumps(sections), **variables,
            )
        )  # fmt: skip


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def readable_files(monkeypatch):
    """Let MLflow's client read its files."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.fixture(scope="module")
def tracked(tiny_base, tmp_path_factory) -> Run:
    """A run whose training was killed after its trackers had shown points, and that was resumed and scored."""
    folder = tmp_path_factory.mktemp("tracked")
    make_dataset(folder / "dataset")
    tokenize_dataset(folder / "dataset", tiny_base, folder / "tokens", SETTINGS["tokens"])
    run = Run(folder / "results/runs/cards", tiny_base, folder / "tokens", SETTINGS)
    process = run.start(*run.words)
    wait_for(lambda: list(run.folder.glob("checkpoints/*/checkpoint-5*/manifest.json")))
    process.send_signal(signal.SIGSTOP)  # the trackers have their own process, which may take its time
    wait_for(lambda: all(run.record().get(name, {"last": [0]})["last"][0] > 0 for name in READERS))
    process.kill()
    process.communicate(timeout=PATIENCE)
    run.killed = {name: run.record()[name]["last"][0] for name in READERS}
    run.end(run.start(*run.words))
    run.live = {name: run.record()[name]["last"][0] for name in READERS}
    run.report()
    return run


def test_trackers_follow_the_training_while_it_runs(tracked):
    steps = [row["step"] for row in read_jsonl(tracked.folder / "curve.jsonl")]
    assert all(0 < step < steps[-1] for step in tracked.killed.values())
    assert set(tracked.live.values()) == {steps[-1]}


@pytest.mark.parametrize("tracker", READERS)
def test_a_tracker_has_name_settings_whole_curve_scores_and_verdict_in_one_run(tracked, tracker):
    found = READERS[tracker](tracked.trackers)
    assert (found["name"], found["project"], len(found["ids"])) == ("cards", "snaketune", 1)
    assert read_json(tracked.folder / "tracked.json")["trackers"][tracker] == {"id": found["ids"].pop(), "error": None}
    for key, value in (("training.learning_rate", 0.001), ("seed", 42), ("base.name", "tiny"), ("lora.r", 16)):
        assert str(found["settings"][key]) == str(value)
    assert len(found["settings"]["dataset_sha256.verdict"]) == 64
    curve = list(read_jsonl(tracked.folder / "curve.jsonl"))
    for kind, key in (("loss", "loss"), ("eval", "eval_loss")):
        expected = [(row["step"], row[key]) for row in curve if key in row]
        assert [step for step, _ in found[kind]] == [step for step, _ in expected]
        assert [value for _, value in found[kind]] == pytest.approx([value for _, value in expected], rel=1e-6)
    for variant in ("base", "q8_0"):
        for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            assert found["scores"][f"scores/{variant}/chrf{suffix}"] == pytest.approx(SCORES[key])
    assert found["verdict"] == "promote"
    for text in (*VERDICT.values(), GATE["reason"], "runs/cards/report.html"):
        assert text in found["text"]


def test_no_token_of_the_environment_is_in_any_file(tracked):
    assert traces(tracked.folder.parents[2]) == []


def test_trackers_change_no_byte_of_the_adapter_and_write_nowhere_else(tracked, tmp_path):
    settings = run_settings(training={**LONG, "report_to": []})
    alone = Run(tmp_path / "results/runs/cards", tracked.base, tracked.words[1], settings)
    alone.end(alone.start(*alone.words))
    files = [run.folder / "adapter/adapter_model.safetensors" for run in (alone, tracked)]
    assert sha256_of(files[0]) == sha256_of(files[1])
    assert not alone.trackers.exists()
    assert [path for path in tracked.work.rglob("*") if any(name in str(path) for name in (*READERS, "mlruns"))] == []


def test_a_head_is_tracked_too_and_a_tracker_that_fails_is_one_warning(tiny_base, tmp_path):
    settings = head_settings(training={"report_to": ["tensorboard", "mlflow"]})
    data = make_data(tmp_path, tiny_base, settings)
    run = Run(tmp_path / "results/runs/pii", tiny_base, data / "tokens", settings, "train/train_head.py")
    password = "planted%2FinTheAddress14"
    closed = {"MLFLOW_TRACKING_URI": f"http://planted:{password}@127.0.0.1:9"}
    said = run.end(run.start(*run.words, **closed))
    (warning,) = (line for line in said.splitlines() if line.startswith("tracker"))
    assert warning.startswith("tracker mlflow: ")
    assert "the run continues" in warning
    reported = run.report(**closed)
    assert f"the run pii is not complete in mlflow: to try again, delete {run.folder}" in reported
    assert f"delete {run.trackers / 'pii.json'} too" in reported
    assert traces(tmp_path, secrets={"in the address": password, "unquoted": unquote(password)}) == []
    assert password not in said + reported
    found = READERS["tensorboard"](run.trackers)
    curve = [row["step"] for row in read_jsonl(run.folder / "curve.jsonl") if "loss" in row]
    assert (found["name"], [step for step, _ in found["loss"]]) == ("pii", curve)
    run.report()
    assert READERS["mlflow"](run.trackers)["verdict"] == "promote"
    assert [step for step, _ in READERS["mlflow"](run.trackers)["loss"]] == curve


def test_a_child_that_is_killed_loses_no_point_and_a_result_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    points = [{"step": step, "loss": 1.0} for step in range(1, 6)]

    def child(count: int, trackers: list[str], **message) -> Tracking:
        tracking = Tracking(tmp_path, "cards", trackers, {}, training="fingerprint")
        tracking.send(points=points[:count], **message)
        return tracking

    killed, record = child(3, [*READERS]).child, tmp_path / "trackers/cards.json"
    wait_for(lambda: record.is_file() and all(read_json(record)[name]["last"] == [3, 0] for name in READERS))
    for process in (*psutil.Process(killed.pid).children(recursive=True), killed):
        process.kill()
    result = {"scores": {}, "facts": {"verdict": "promote"}, "text": "promoted"}
    tracked = child(5, [*READERS], result=result).finish()
    assert [tracked[name]["error"] for name in READERS] == [None] * 4
    assert child(5, ["trackio"], result=result).finish() == {"trackio": tracked["trackio"]}
    for read in READERS.values():
        assert [step for step, _ in read(tmp_path / "trackers")["loss"]] == [1, 2, 3, 4, 5]
    from trackio.sqlite_storage import SQLiteStorage

    assert ["verdict" in row for row in SQLiteStorage.get_logs("snaketune", "cards")] == [False] * 5 + [True]
