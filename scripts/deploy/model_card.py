"""The bundle's model card, from the template card.md.jinja."""

import json
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from scripts.common.language import language_of
from scripts.gguf.tensor_types import rounding_note
from scripts.score.columns import left_aside
from scripts.score.metrics import METRICS
from scripts.score.shown import interval_text, shown
from scripts.score.stand_in import base_name, is_stand_in
from scripts.score.votes_shown import card_lines
from scripts.tasks import task_of

HUB = "https://huggingface.co/"
METHODS = {
    "lora": "LoRA",
    "qlora": "QLoRA",
    "full": "full",
    "head": "a linear classifier over the frozen base",
    "head and lora": "a linear classifier and a LoRA of the base",
}


def one_line(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())


def cell(text: str) -> str:
    """Return text for a table cell: on one line, with `|` and `<` escaped."""
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def interval(metric: str, value: dict | None) -> str:
    """Return a metric's value with its 95 % interval; a dash if undefined."""
    if not value:
        return "–"
    if value.get("low") is None:
        return cell(shown(metric, value["value"]))
    return cell(f"{shown(metric, value['value'])} ({interval_text(metric, value)})")


def metric_rows(scores: list[dict], aside: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """Yield title and values (one per variant) of each metric that any variant has."""
    for metric, entry in METRICS.items():
        values = [found["metrics"].get(metric) for found in scores]
        if metric not in aside and any(value is not None for value in values):
            yield entry.title, [interval(metric, value) for value in values]


def model_card(settings: dict, base: dict, base_key: str, scores: list[dict], verdict: dict, **own) -> str:
    """Return the text of README.md.

    `base` is the base model's manifest and `base_key` its name if it is not from the hub. `own` has the values for the
    task, from `gguf_files` or `classifier_files` in build_bundle.py.
    """
    run, model, dataset = settings["run"], settings["model"], settings["dataset"]
    hub = model["hub"] and model["hub"]["id"]
    task = task_of(run)
    method = f"head and {run['method']}" if own.get("head") and run["method"] != "head" else run["method"]
    origin = f"[{hub}]({HUB}{hub})" if hub else base_name(base_key, base)
    metadata = {
        "license": own["license"].lower(),
        "library_name": task.library,
        "pipeline_tag": task.pipeline,
        "base_model": hub,
        "base_model_relation": task.relation if hub else None,
        "language": [language_of(dataset["language"])] if dataset["language"] else None,
        "datasets": [dataset["hub"]["id"]] if dataset["hub"] else None,
        "tags": [*task.tags, run["method"], base.get("architecture") or "model"],
    }
    environment = Environment(  # noqa: S701 (Markdown; what comes from elsewhere is escaped by `cell`)
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "cell": cell,
        "json": lambda value: json.dumps(value, ensure_ascii=False),  # JSON is YAML
        "line": one_line,
        "short": "{:.2g}".format,
    }
    return environment.get_template("card.md.jinja").render(
        {**settings, "deploy": run["deploy"], "base": base, "scores": scores, "verdict": verdict, "metadata": metadata},
        method=METHODS[method],
        origin=origin + (f" at `{base['revision']}`" if base.get("revision") else ""),
        hub=HUB,
        is_stand_in=is_stand_in(base),
        rounding_note=rounding_note(base),
        aside=left_aside(scores, verdict["gates"]) if scores else (),
        metric_rows=metric_rows,
        people=[line for found in scores if found["variant"] == own["shipped"] for line in card_lines(found)],
        interval=interval,
        **own,
    )
