"""The bundle's model card: Hugging Face metadata, results, limits, how to run it.

Metadata keys: https://huggingface.co/docs/hub/model-cards#model-card-metadata
"""

import json
from collections import Counter

from scripts.common.language import language_of
from scripts.common.modelfile_text import with_plain_spaces
from scripts.deploy import vision_bundle
from scripts.deploy.served_strategy import lacking_system, strategy_lines
from scripts.score.catalogue import CATALOGUE, shown
from scripts.score.columns import left_aside

METHODS = {"lora": "LoRA", "qlora": "QLoRA", "full": "full"}
HUB = "https://huggingface.co/"
EMBEDDED_NOTE = (
    "Its base is a tiny model that snaketune makes for seeing and testing the workflow; it is of no use for anything "
    "else."
)
NO_BREAK_NOTE = (
    "The system text has no-break spaces; in the Modelfile they are plain spaces, for Ollama would drop them."
)


def metadata_lines(settings: dict, header: dict, base: dict) -> list[str]:
    """Return the YAML front matter; values are JSON, which is YAML."""
    model, dataset = settings["model"], settings["dataset"]
    values = {
        "license": str(header.get("general.license", "unknown")).lower(),
        "library_name": "gguf",
        "pipeline_tag": "image-text-to-text" if settings["run"]["task"] == "vision" else "text-generation",
        "base_model": model["hub"]["id"] if model["hub"] else None,
        "base_model_relation": "quantized" if model["hub"] else None,
        "language": [language_of(dataset["language"])] if dataset["language"] else None,
        "datasets": [dataset["hub"]["id"]] if dataset["hub"] else None,
        "tags": ["gguf", "llama.cpp", "ollama", settings["run"]["method"], base.get("architecture") or "model"],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None]
    return ["---", *lines, "---"]


def cell(text: str) -> str:
    """Return text for one cell of a table: on one line, and no cell's end in it."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def interval(metric: str, value: dict) -> str:
    """Return a metric's value with its 95 % interval."""
    if value.get("low") is None:
        return shown(metric, value["value"])
    low, high = (shown(metric, value[side], unit=False) for side in ("low", "high"))
    return f"{shown(metric, value['value'])} ({low} to {high})"


def results_table(scores: list[dict], shipped: str, aside: tuple[str, ...] = ()) -> list[str]:
    """Return the table of metrics, one column per variant, without those `aside` and those that no variant has."""
    titles = [f"**{s['variant']}**" if s["variant"] == shipped else s["variant"] for s in scores]
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "---|" * len(scores)]
    for metric, entry in CATALOGUE.items():
        values = [s["metrics"].get(metric) for s in scores]
        if metric not in aside and any(value is not None for value in values):
            cells = [interval(metric, value) if value else "–" for value in values]
            lines.append(f"| {entry.title} | " + " | ".join(cell(text) for text in cells) + " |")
    return lines


def gate_lines(verdict: dict) -> list[str]:
    """Return the verdict and its reasons, a line for each gate."""
    outcomes = {True: "passed", False: "failed", None: "open"}
    gates = [f"- {cell(gate['name'])}, {outcomes[gate['passed']]}: {cell(gate['reason'])}" for gate in verdict["gates"]]
    return [f"Verdict: **{verdict['verdict']}**", "", *(gates or ["No gate is defined for this run."])]


def data_line(settings: dict) -> str:
    """Return what a model was trained on, and where the exact data are named."""
    dataset = settings["dataset"]
    hub = f" ([{dataset['hub']['id']}]({HUB}datasets/{dataset['hub']['id']}))" if dataset["hub"] else ""
    licence = f"licence {dataset['license']}" if dataset["license"] else "licence not stated"
    made_from = "What it was made from, to the byte, is in `provenance.json`."
    return f"Trained on `{settings['dataset_key']}`{hub}, {licence}. {made_from}"


def limit_lines(settings: dict, parity: dict, base: dict, asked: Counter[str]) -> list[str]:
    """Return what the model can't do, and where a server may differ from training."""
    lines = [settings["run"]["deploy"]["limits"]] if settings["run"]["deploy"]["limits"] else []
    system = settings["run"]["deploy"]["system"] or ""
    lines += [NO_BREAK_NOTE] if with_plain_spaces(system) != system else []
    lines += [EMBEDDED_NOTE] if base.get("source") == "embedded" else []
    if base.get("template_date"):
        lines.append(
            f"The chat template writes a date; it is {base['template_date']} on every day, as it was in training."
        )
    shape = parity["shape"]
    if shape["system"] == "none":
        lines.append("The chat template has no place for a system message; Ollama leaves one out.")
    elif lacking := lacking_system(system, asked):
        lines.append(f"{lacking}: the results are not those of what is served.")
    if shape["system"] == "last_message":
        lines.append("The chat template shows the system message in the last user message only.")
    if shape["trims"]:
        lines.append(
            f"The chat template strips white space around messages ({', '.join(shape['trims'])}); Ollama does not."
        )
    lines.append("It can be wrong, and it knows nothing after its data. Check what it says before you rely on it.")
    return [f"- {' '.join(line.split())}" for line in lines]


def run_lines(stem: str, file_name: str) -> list[str]:
    """Return how a model of text is run."""
    return [
        "With Ollama, in this folder:",
        "",
        "```console",
        f"ollama create {stem} -f Modelfile",
        f"ollama run {stem}",
        "```",
        "",
        f"With llama.cpp: `llama-cli -m {file_name}`; the chat template and the sampling defaults are in the file.",
        "From Python: `python example_llama_cpp.py`, or `python example_transformers.py` with the merged model, which "
        "is the folder `merged` beside the bundle where it was made.",
    ]


def model_card(
    settings: dict,
    header: dict,
    file_name: str,
    base: dict,
    scores: list[dict],
    verdict: dict,
    parity: dict,
    shipped: str,
    asked: Counter[str],
    eyes: vision_bundle.VisionParts | None = None,
) -> str:
    """Return the text of README.md.

    `header` are the GGUF file's metadata values, `base` the base model's manifest, `scores` those of all variants in
    order, and `shipped` the quant in the bundle. `asked` counts the system texts that the questions were scored with;
    `eyes` is what a vision run's bundle has beside.
    """
    model, deploy = settings["model"], settings["run"]["deploy"]
    name = header["general.name"]
    origin = (
        f"[{model['hub']['id']}]({HUB}{model['hub']['id']})" if model["hub"] else header["general.base_model.0.name"]
    )
    revision = f" at `{base['revision']}`" if base.get("revision") else ""
    divergence = parity["divergence"]
    stem = file_name.split("-")[0].lower() + "-" + header["general.finetune"].lower()
    parts = [
        *metadata_lines(settings, header, base),
        "",
        f"# {name} ({header['general.version']})",
        "",
        *([deploy["description"], ""] if deploy["description"] else []),
        f"A {METHODS[settings['run']['method']]} fine-tune of {origin}{revision}, "
        f"{header['general.size_label']} weights, quantized to {shipped}.",
        "",
        "## Run it",
        "",
        *(vision_bundle.run_lines if eyes else run_lines)(stem, file_name),
        "",
        "`sha256sum -c SHA256SUMS` checks the files.",
        "",
        *strategy_lines(settings["run"], asked),
        "## Results",
        "",
        f"On {scores[0]['records']} held-out records, with 95 % bootstrap intervals; the shipped file is in bold."
        if scores
        else "Not scored.",
        "",
        *results_table(scores, shipped, left_aside(scores, verdict["gates"])),
        "",
        *gate_lines(verdict),
        "",
        "## Served is trained",
        "",
        f"In {parity['conversations']['equal']} conversations llama.cpp sees the very tokens that training saw, and in "
        f"{parity['modelfile']['equal']} with the Modelfile's TEMPLATE. The next-token distribution of the bf16 file "
        f"is {divergence['mean']:.2g} nats (mean KL divergence, largest {divergence['max']:.2g}) from the merged "
        "model's.",
        *([vision_bundle.parity_line(parity["images"])] if eyes else []),
        "",
        "## Data",
        "",
        data_line(settings),
        "",
        "## Limits",
        "",
        *([f"- {line}" for line in vision_bundle.limit_lines(eyes, parity["images"])] if eyes else []),
        *limit_lines(settings, parity, base, asked),
    ]
    return "\n".join(parts) + "\n"
