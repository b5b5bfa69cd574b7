"""The model card of a token classifier: Hugging Face metadata, classes, scores, limits, how to run it.

Metadata keys: https://huggingface.co/docs/hub/model-cards#model-card-metadata
"""

import json

from scripts.common.language import language_of
from scripts.deploy.model_card import EMBEDDED_NOTE, HUB, cell, data_line, gate_lines, interval, results_table

METHODS = {"head": "a linear classifier over the frozen base", "lora": "a linear classifier and a LoRA of the base"}
ERRORS = {
    "missed": "missed",
    "false_positive": "found where there is none",
    "wrong_type": "of the wrong type",
    "wrong_boundary": "with a wrong beginning or end",
}


def metadata_lines(settings: dict, base: dict) -> list[str]:
    """Return the YAML front matter; values are JSON, which is YAML."""
    model, dataset = settings["model"], settings["dataset"]
    values = {
        "license": str(model["license"] or base.get("license") or "unknown").lower(),
        "library_name": "transformers",
        "pipeline_tag": "token-classification",
        "base_model": model["hub"]["id"] if model["hub"] else None,
        "base_model_relation": "finetune" if model["hub"] else None,
        "language": [language_of(dataset["language"])] if dataset["language"] else None,
        "datasets": [dataset["hub"]["id"]] if dataset["hub"] else None,
        "tags": ["token-classification", settings["run"]["method"], base.get("architecture") or "model"],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None]
    return ["---", *lines, "---"]


def score_cells(scores: dict) -> list[str]:
    """Return precision, recall and F1 with their intervals; a dash for one that is not defined."""
    found = [scores[name] for name in ("precision", "recall", "f1")]
    return [cell(interval("entity_f1", score)) if score else "–" for score in found]


def class_lines(scores: dict) -> list[str]:
    """Return the table of classes, by name."""
    lines = ["| class | entities | precision | recall | F1 |", "|---|---|---|---|---|"]
    for label, row in scores["entities"]["classes"].items():
        lines.append("| " + " | ".join([cell(label), str(row["support"]), *score_cells(row)]) + " |")
    return lines


def label_lines(scores: dict) -> list[str]:
    """Return the table of the records' labels, such as languages; nothing for fewer than two."""
    if not scores["by_label"]:
        return []
    lines = ["| records of | records | entities | precision | recall | F1 |", "|---|---|---|---|---|---|"]
    for label, row in scores["by_label"].items():
        metrics = {name: row["metrics"].get(f"entity_{name}") for name in ("precision", "recall", "f1")}
        counts = [str(row["records"]), str(row.get("entities", 0))]
        lines.append("| " + " | ".join([cell(label), *counts, *score_cells(metrics)]) + " |")
    return ["", *lines]


def error_line(scores: dict) -> str:
    """Return one sentence on what was wrong, by kind."""
    counts = scores["entities"]["errors"]
    return "Wrong ones: " + ", ".join(f"{counts[kind]} {text}" for kind, text in ERRORS.items()) + "."


def result_lines(scores: list[dict], shipped: str) -> list[str]:
    """Return what was measured on the test split."""
    own = next((found for found in scores if found["variant"] == shipped), None)
    if own is None:
        return ["Not scored."]
    said = f"On {own['records']} held-out records, with 95 % bootstrap intervals. An entity counts as found when type, "
    return [
        said + "beginning and end are right.",
        "",
        *class_lines(own),
        *label_lines(own),
        "",
        error_line(own),
        "",
        *results_table([own], shipped),
    ]


def limit_lines(settings: dict, classes: list[str], base: dict) -> list[str]:
    """Return what the classifier can't do."""
    lines = [settings["run"]["deploy"]["limits"]] if settings["run"]["deploy"]["limits"] else []
    lines += [EMBEDDED_NOTE] if base.get("source") == "embedded" else []
    lines += [
        f"It knows the {len(classes)} classes above and no others, from texts like those that it was trained on.",
        "What it misses stays in a text: look at the recall above before you rely on it to remove anything.",
        "Entities do not overlap, and each begins and ends where a token does.",
    ]
    return [f"- {' '.join(line.split())}" for line in lines]


def classifier_card(
    settings: dict, classes: list[str], base: dict, scores: list[dict], verdict: dict, origin: str
) -> str:
    """Return the text of README.md.

    `classes` are those that the model knows, `base` the base model's manifest, `scores` those of all variants, and
    `origin` the base's name where it is not from the hub.
    """
    model, run = settings["model"], settings["run"]
    if model["hub"]:
        origin = f"[{model['hub']['id']}]({HUB}{model['hub']['id']})"
    revision = f" at `{base['revision']}`" if base.get("revision") else ""
    tokens = run["tokens"]
    parts = [
        *metadata_lines(settings, base),
        "",
        f"# {settings['run_key']}",
        "",
        *([run["deploy"]["description"], ""] if run["deploy"]["description"] else []),
        f"A token classifier that finds {len(classes)} kinds of entities in texts: {METHODS[run['method']]}, on "
        f"{origin}{revision}.",
        "",
        ", ".join(f"`{cell(label)}`" for label in classes),
        "",
        "## Run it",
        "",
        "```console",
        "pip install torch transformers",
        'python example_classify.py "your text"',
        "```",
        "",
        "`AutoModelForTokenClassification.from_pretrained` loads the folder `model`; its labels are BIO tags. The "
        f"example reads texts in windows of {tokens['max_length']} tokens that overlap by {tokens['window_overlap']}.",
        "",
        "`sha256sum -c SHA256SUMS` checks the files.",
        "",
        "## Results",
        "",
        *result_lines(scores, verdict["shipped"]),
        "",
        *gate_lines(verdict),
        "",
        "## Data",
        "",
        data_line(settings),
        "",
        "## Limits",
        "",
        *limit_lines(settings, classes, base),
    ]
    return "\n".join(parts) + "\n"
