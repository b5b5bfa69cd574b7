"""Read runs back from wandb's own files, MLflow, TensorBoard and Trackio, each as the same dictionary."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

BLOCK, HEADER = 32768, 7  # of wandb's transaction log, which is a LevelDB log


def wandb_records(path: Path) -> Iterator:
    """Yield the records of a transaction log."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, record = path.read_bytes(), HEADER, b""
    while place < len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + HEADER])
        place += HEADER + length
        record += data[place - length : place]
        if kind in (1, 4):  # a whole record, or its last part
            yield Record.FromString(record)
            record = b""


def read_wandb(folder: Path) -> dict:
    """Return the run that the parts below a folder make: `wandb sync` uploads them in this order."""
    found = {"ids": set(), "settings": {}, "loss": [], "eval": [], "scores": {}}
    for part in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in wandb_records(part):
            if record.HasField("run"):
                found |= {"name": record.run.display_name, "project": record.run.project}
                found["ids"].add(record.run.run_id)
                found["text"] = record.run.notes or found.get("text")
            for item in record.config.update:
                found["settings"][item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
            row = {(i.key or i.nested_key[0]): json.loads(i.value_json) for i in record.history.item}
            for kind, key in (("loss", "train/loss"), ("eval", "eval/loss")):
                found[kind] += [(row["step"], row[key])] if key in row else []
            for item in record.summary.update:
                found["scores"][item.key or item.nested_key[0]] = json.loads(item.value_json)
    found["verdict"] = found["scores"].get("verdict")
    return found


def read_mlflow(folder: Path) -> dict:
    """Return the only run of the experiment snaketune."""
    import mlflow

    client = mlflow.MlflowClient((folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("snaketune")
    runs = client.search_runs([experiment.experiment_id])
    run = runs[0]
    curves = [client.get_metric_history(run.info.run_id, key) for key in ("train/loss", "eval/loss")]
    loss, evaluations = ([(point.step, point.value) for point in curve] for curve in curves)
    return {
        "ids": {each.info.run_id for each in runs},
        "name": run.info.run_name,
        "project": experiment.name,
        "settings": run.data.params,
        "loss": loss,
        "eval": evaluations,
        "scores": run.data.metrics,
        "verdict": run.data.tags.get("verdict"),
        "text": run.data.tags.get("mlflow.note.content"),
    }


def read_tensorboard(folder: Path) -> dict:
    """Return the only run of the folder that `tensorboard --logdir` shows."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.util.tensor_util import make_ndarray

    events = EventMultiplexer(tensor_size_guidance={"scalars": 0}).AddRunsFromDirectory(str(folder / "runs")).Reload()
    runs = events.Runs()
    (name,) = runs

    def points(tag: str) -> list[tuple]:
        known = tag in runs[name]["tensors"]
        return [(e.step, make_ndarray(e.tensor_proto).item()) for e in (events.Tensors(name, tag) if known else [])]

    settings = dict(line[1:-1].split("|", 1) for line in points("settings")[-1][1].decode().splitlines()[2:])
    scores = {tag: points(tag)[-1][1] for tag in runs[name]["tensors"] if tag.startswith("scores/")}
    text = points("verdict")[-1][1].decode() if scores else ""
    return {
        "ids": {name},
        "name": name,
        "project": "snaketune",
        "settings": settings,
        "loss": points("train/loss"),
        "eval": points("eval/loss"),
        "scores": scores,
        "text": text,
        "verdict": text.partition("**verdict**: ")[2].split("\n")[0] or None,
    }


def read_trackio(folder: Path) -> dict:
    """Return the only run of the project snaketune, from its SQLite file by Trackio's own reader."""
    from trackio import sqlite_storage

    sqlite_storage.TRACKIO_DIR = folder / "trackio"
    store = sqlite_storage.SQLiteStorage
    records = store.get_run_records("snaketune")
    rows, last = store.get_logs("snaketune", records[0]["name"]), {}
    for row in rows:
        last |= row
    return {
        "ids": {record["id"] for record in records},
        "name": records[0]["name"],
        "project": "snaketune",
        "settings": store.get_run_config("snaketune", records[0]["name"]),
        "loss": [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row],
        "eval": [(row["step"], row["eval/loss"]) for row in rows if "eval/loss" in row],
        "scores": last,
        "verdict": last.get("verdict"),
        "text": last.get("text", {}).get("_value"),
    }


READERS = {"wandb": read_wandb, "mlflow": read_mlflow, "tensorboard": read_tensorboard, "trackio": read_trackio}
