"""The `general.*` metadata of a GGUF file.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#general; that page lacks the numbered datasets and the
sampling defaults, which follow llama.cpp (gguf-py/gguf/constants.py, src/llama-model.cpp).
"""

import re
from pathlib import Path

from scripts.common.language import language_of
from scripts.gguf.naming import ModelName, base_version
from scripts.gguf.rewrite import Int32, Value

HUB = "https://huggingface.co/"
TEXT_TAG, IMAGE_TAG = "text-generation", "image-text-to-text"  # the hub's names of tasks
# Values that only the converter knows, kept unchanged.
CONVERTERS_OWN = ("architecture", "type", "file_type", "quantization_version", "alignment")
QUANT = re.compile(r"[.-]((I?Q|TQ)\d\w*|MXFP4|F16|BF16|F32)$", re.IGNORECASE)  # at the end of a GGUF file's name


def display_name(model: dict, key: str) -> str:
    """Return a base model's display name: the configured one, or from hub id, GGUF file, folder or key."""
    if model["name"]:
        return model["name"]
    if model["hub"]:
        return model["hub"]["id"].split("/")[-1]
    if model["gguf"]:
        return QUANT.sub("", Path(model["gguf"]["file"]).stem)
    return Path(model["path"]).name if model["path"] else key


def general_metadata(
    name: ModelName, settings: dict, license_name: str | None, task: str = TEXT_TAG
) -> dict[str, Value]:
    """Return the entries that describe a model, its origin, and its sampling defaults.

    `settings` has the sections project, model, dataset and deploy and the names of run, model and dataset;
    `license_name` is the base model's licence, `task` the hub's name of the task.
    """
    project, deploy, parameters = settings["project"], settings["deploy"], settings["deploy"]["parameters"]
    publisher = project["organization"] or project["author"] or project["name"]
    base = display_name(settings["model"], settings["model_key"])
    hub, data, language = settings["model"]["hub"], settings["dataset"]["hub"], settings["dataset"]["language"]
    entries = {
        "general.name": f"{base} {settings['run']}",
        "general.basename": name.basename,
        "general.size_label": name.size_label,
        "general.finetune": name.finetune,
        "general.version": name.version,
        "general.author": project["author"],
        "general.organization": project["organization"],
        "general.url": project["url"],
        "general.description": deploy["description"] or None,
        "general.quantized_by": publisher,
        "general.license": settings["model"]["license"] or license_name,
        "general.base_model.count": 1,
        "general.base_model.0.name": base,
        "general.base_model.0.version": base_version(base),
        "general.base_model.0.organization": hub["id"].rpartition("/")[0] or None if hub else None,
        "general.base_model.0.repo_url": HUB + hub["id"] if hub else None,
        "general.datasets": [HUB + "datasets/" + data["id"] if data else settings["dataset_key"]],
        "general.dataset.count": 1,
        "general.dataset.0.name": data["id"].split("/")[-1] if data else settings["dataset_key"],
        "general.dataset.0.repo_url": HUB + "datasets/" + data["id"] if data else None,
        "general.languages": [language_of(language)] if language else None,
        "general.tags": [task, project["name"]],
        # The sampling defaults that llama.cpp reads from a file.
        "general.sampling.top_k": Int32(parameters["top_k"]),
        "general.sampling.top_p": float(parameters["top_p"]),
        "general.sampling.min_p": float(parameters["min_p"]),
        "general.sampling.temp": float(parameters["temperature"]),
        "general.sampling.penalty_repeat": float(parameters["repeat_penalty"]),
    }
    return {key: value for key, value in entries.items() if value is not None}


def metadata_changes(present: list[str], wanted: dict[str, Value]) -> dict[str, Value | None]:
    """Return the changes that set these `general.*` entries and remove those that the converter guessed."""
    guessed = [key for key in present if key[:8] == "general." and key[8:] not in CONVERTERS_OWN]
    return {**dict.fromkeys(guessed), **wanted}
