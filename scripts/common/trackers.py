"""Write a run to wandb, mlflow, tensorboard and trackio: the child process that scripts/common/tracking.py starts.

It reads JSON lines from stdin: the run's name, settings and trackers, then points of the curve, at the end scores and
verdict. `<results>/trackers/<run>.json` says which tracked run this is in each tracker, and what of it is written
there: so a training that resumes continues in the same tracked run, and no point is missing or there twice.
"""

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from scripts.common.files import canonical_sha256, read_json, take_lock, write_json
from scripts.common.terminal import log, terminal, warn
from scripts.common.tracking import LONGEST

PROJECT = "snaketune"
HTTP_SECONDS = 30
PAUSE = 60  # seconds from a failure of a tracker to the next attempt
FLUSH = 1  # seconds in which wandb and trackio write what they were given to their files
BATCH = 100  # points that are sent at once
UNENDED = "did not end in time"


def defaults(folder: Path) -> dict[str, str]:
    """Return the environment variables of the trackers; those that the user has set have priority."""
    return {
        "WANDB_PROJECT": PROJECT,
        "WANDB_DIR": str(folder),
        "WANDB_CACHE_DIR": str(folder / "wandb/.cache"),
        "WANDB_DATA_DIR": str(folder / "wandb/.data"),
        "MLFLOW_EXPERIMENT_NAME": PROJECT,
        # mlflow-skinny has no database. The file store is complete, but mlflow wants to be told.
        "MLFLOW_TRACKING_URI": (folder / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(HTTP_SECONDS),
        "TENSORBOARD_LOGGING_DIR": str(folder / "runs"),
        "TRACKIO_PROJECT": PROJECT,
        "TRACKIO_DIR": str(folder / "trackio"),
    }


class Wandb:
    """A run of Weights & Biases. Without a network (WANDB_MODE=offline), each process writes a part of it."""

    def __init__(self, name: str, entry: dict, settings: dict):
        import wandb

        entry["id"] = entry["id"] or uuid.uuid4().hex[:8]
        options = {"console": "off", "init_timeout": HTTP_SECONDS, "x_transaction_log_flush_interval": FLUSH / 10}
        self.run = wandb.init(name=name, id=entry["id"], resume="allow", settings={**options, "silent": True})
        self.run.define_metric("*", step_metric="step")
        self.run.config.update(settings, allow_val_change=True)

    def points(self, rows: list[tuple[int, dict]]) -> None:
        for step, values in rows:
            self.run.log({"step": step, **values})

    def result(self, step: int, scores: dict, facts: dict, text: str) -> None:
        self.run.summary.update({**scores, **facts})
        self.run.notes = text

    def close(self) -> None:
        self.run.finish()


class Mlflow:
    """A run of MLflow. Its parameters can't be changed: those that are known stay."""

    def __init__(self, name: str, entry: dict, settings: dict):
        import mlflow
        from mlflow.entities import Param

        self.client = mlflow.MlflowClient()
        if entry["id"] is None:
            experiment = mlflow.set_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"]).experiment_id
            entry["id"] = self.client.create_run(experiment, run_name=name).info.run_id
        self.id = entry["id"]
        self.client.update_run(self.id, status="RUNNING")
        known = self.client.get_run(self.id).data.params
        new = [Param(key, str(value)[:6000]) for key, value in settings.items() if key not in known]
        for start in range(0, len(new), 100):  # the largest number in a call
            self.client.log_batch(self.id, params=new[start : start + 100])

    def points(self, rows: list[tuple[int, dict]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for step, values in rows for key, value in values.items()]
        for start in range(0, len(metrics), 1000):  # the largest number in a call
            self.client.log_batch(self.id, metrics=metrics[start : start + 1000])

    def result(self, step: int, scores: dict, facts: dict, text: str) -> None:
        self.points([(step, scores)])
        for key, value in {**facts, "mlflow.note.content": text}.items():
            self.client.set_tag(self.id, key, value)
        self.client.set_terminated(self.id)

    def close(self) -> None:
        pass


class Tensorboard:
    """A folder of event files, which has the run's name; one of the same run with other settings is renamed."""

    def __init__(self, name: str, entry: dict, settings: dict):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = Path(os.environ["TENSORBOARD_LOGGING_DIR"]) / name
        if entry["id"] is None and folder.exists():
            folder.rename(folder.with_name(f"{name}-until-{time.strftime('%Y%m%d-%H%M%S')}"))
        entry["id"] = name
        self.writer = EventFileWriter(str(folder))
        cells = {key: str(value).replace("|", "\\|").replace("\n", " ") for key, value in settings.items()}
        self.text("settings", "\n".join(["|||", "|-|-|", *(f"|{key}|{cell}|" for key, cell in cells.items())]))

    def add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.writer.add_event(Event(summary=summary, step=step, wall_time=time.time()))

    def text(self, tag: str, text: str) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self.add(text_pb(tag, text), 0)

    def points(self, rows: list[tuple[int, dict]]) -> None:
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for step, values in rows:
            for key, value in values.items():
                self.add(scalar_pb(key, value), step)
        self.writer.flush()

    def result(self, step: int, scores: dict, facts: dict, text: str) -> None:
        self.points([(step, scores)])
        self.text("verdict", text)

    def close(self) -> None:
        self.writer.close()


class Trackio:
    """A run of Trackio, which finds a run by its name: the newest of that name."""

    def __init__(self, name: str, entry: dict, settings: dict):
        import trackio

        resume = "never" if entry["id"] is None else "allow"
        options = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        self.run = trackio.init(os.environ["TRACKIO_PROJECT"], name, config=settings, resume=resume, **options)
        entry["id"] = self.run.id

    def points(self, rows: list[tuple[int, dict]]) -> None:
        for step, values in rows:
            self.run.log(values, step=step)

    def result(self, step: int, scores: dict, facts: dict, text: str) -> None:
        import trackio

        self.run.log({**scores, **facts, "text": trackio.Markdown(text)}, step=step)

    def close(self) -> None:
        self.run.finish()


TRACKERS = {"wandb": Wandb, "mlflow": Mlflow, "tensorboard": Tensorboard, "trackio": Trackio}


def flat(settings: dict, prefix: str = "") -> dict:
    """Return settings with one level, whose keys are such as training.learning_rate; lists become JSON."""
    found: dict = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
    return found


def position(row: dict) -> list[int]:
    """Return the place of a point in the curve: its step, and that an evaluation follows the step's training loss."""
    return [row["step"], int("eval_loss" in row)]


def named(row: dict) -> tuple[int, dict]:
    """Return a point's step, and its values by the names that trackers group: train/loss, eval/loss."""
    values = {key: value for key, value in row.items() if key != "step" and value is not None}
    prefix = "eval/" if "eval_loss" in row else "train/"
    return row["step"], {prefix + key.removeprefix("eval_"): value for key, value in values.items()}


class TrackedRun:
    """A run in its trackers, and the file that says what of it is written there."""

    def __init__(self, request: dict, path: Path):
        self.path, self.request, self.open, self.failed = path, request, {}, {}
        self.points, self.result = [], None
        self.record = read_json(path) if path.is_file() else {}
        training, answers = request["training"], request["answers"]
        # Another training, or other settings of the answers, which a training does not know, make another tracked run.
        if self.record.get("training") != training or (answers and self.record["answers"] not in (None, answers)):
            self.record = {}
        self.record |= {"training": training, "answers": answers or self.record.get("answers")}
        for name in request["trackers"]:
            self.record.setdefault(name, {"id": None, "last": [-1, 0], "result": None})["error"] = UNENDED
        self.update(self.write)

    def update(self, action: Callable) -> None:
        """Run an action on each tracker; one that fails is a warning, and pauses."""
        for name in self.request["trackers"]:
            if name in self.failed and time.monotonic() < self.failed[name] + PAUSE:
                continue
            entry = self.record[name]
            try:
                if name not in self.open:
                    self.open[name] = TRACKERS[name](self.request["run"], entry, flat(self.request["settings"]))
                action(self.open[name], entry)
            except BaseException as error:  # some libraries raise SystemExit when they give up
                log.exception("tracker %s", name)
                entry["error"] = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
                if name not in self.failed:
                    warn(f"tracker {name}: {entry['error']}; the run continues, and tries again later")
                self.failed[name] = time.monotonic()
            write_json(self.path, self.record, part=True)

    def add(self, tracker: Any, entry: dict) -> None:
        """Give a tracker the points and the result that it lacks."""
        new = [row for row in self.points if position(row) > entry["last"]]
        result = self.result and canonical_sha256(self.result)
        for rows in (new[start : start + BATCH] for start in range(0, len(new), BATCH)):
            tracker.points([named(row) for row in rows])
            entry["last"] = position(rows[-1])
        if result and entry["result"] != result:
            tracker.result(max(entry["last"][0], 0), **self.result)
            entry["result"] = result
        entry["error"] = UNENDED

    def write(self, tracker: Any, entry: dict) -> None:
        """Give a tracker what it lacks, and wait until a kill of this process can't take it away."""
        self.add(tracker, entry)
        if isinstance(tracker, (Wandb, Trackio)):
            time.sleep(FLUSH)

    def finish(self, tracker: Any, entry: dict) -> None:
        """Give a tracker what it lacks, and close it."""
        self.add(tracker, entry)
        tracker.close()
        entry["error"] = None


def read_messages(messages: queue.SimpleQueue) -> None:
    """Queue each line of stdin at once, so that the sender never waits; end the process after the last one's time."""
    for line in sys.stdin:
        messages.put(json.loads(line))
    messages.put(None)
    time.sleep(LONGEST)
    log.warning("the trackers took more than %d s", LONGEST)
    os._exit(1)


def keep_password_apart() -> None:
    """Move user and password from MLflow's address, which its messages show, to the variables for them."""
    uri = urlsplit(os.environ["MLFLOW_TRACKING_URI"])
    if uri.scheme in ("http", "https") and uri.password:
        os.environ |= {
            "MLFLOW_TRACKING_URI": uri._replace(netloc=uri.netloc.rpartition("@")[2]).geturl(),
            "MLFLOW_TRACKING_USERNAME": unquote(uri.username),
            "MLFLOW_TRACKING_PASSWORD": unquote(uri.password),
        }


def main() -> None:
    """Write what stdin says to the trackers."""
    messages: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=read_messages, args=(messages,), daemon=True).start()
    for sent in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sent, signal.SIG_IGN)
    request = messages.get()
    terminal.redirect(request["log"] and Path(request["log"]), go_on=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    os.nice(5)
    folder = Path(request["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    for variable, value in defaults(folder).items():
        os.environ.setdefault(variable, value)
    keep_password_apart()
    with open(folder / f".{request['run']}.lock", "w", encoding="utf-8") as lock:
        try:
            take_lock(lock, LONGEST)  # the child of a training that was killed may still write
        except BlockingIOError:
            warn(f"another process still writes the run {request['run']} to its trackers: this one does not")
            sys.exit(1)
        except OSError as error:
            log.info("the results folder has no locks: %s", error)
        run = TrackedRun(request, folder / f"{request['run']}.json")
        while message := messages.get():
            run.points += message.get("points", ())
            run.result = message.get("result", run.result)
            if messages.empty():
                run.update(run.write)
        run.update(run.finish)


if __name__ == "__main__":
    main()
