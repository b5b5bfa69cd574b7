"""Bundles to serve, made without a training: of SmolLM2-135M-Instruct, whose answers make sense, and of tiny models."""

import json
from pathlib import Path

from scripts.common.files import write_json, write_jsonl
from scripts.config.runs import Run
from scripts.gguf.check_parity import main as check_parity
from tests.support.bundles import build, bundle_settings
from tests.support.gguf_files import changed, dequantized
from tests.support.smollm2 import ORIGIN
from tests.support.vision_run import VisionRun

SYSTEM = "You are a pirate. Answer in one short sentence."
QUESTIONS = ("What is the capital of France?", "Say hello.", "Name a colour.", "Qui a marqué pour Lens\u202f?")
NAME = {"basename": "SmolLM2", "size_label": "135M", "finetune": "pirate", "version": "v1.0", "name": "SmolLM2 pirate"}


def write_split(path: Path, system: str | None = None) -> Path:
    """Write a split of conversations."""
    first = [{"role": "system", "content": system}] if system else []
    asked = [[*first, {"role": "user", "content": text}] for text in QUESTIONS]
    rows = [[*messages, {"role": "assistant", "content": "Aye, matey!"}] for messages in asked]
    write_jsonl(path, [{"id": str(number), "messages": messages} for number, messages in enumerate(rows)])
    return path


def bundle_of(model: Path, merged: Path, folder: Path, run: dict, vision: VisionRun | None = None) -> Path:
    """Build `folder`/bundle of a GGUF file and its model folder with a manifest; `vision` adds tower and images."""
    tower = ["--mmproj", vision.mmproj] if vision else []
    test = vision.test if vision else write_split(folder / "test.jsonl")
    words = [merged, model, "--test", test, "--output", folder / "parity.json", *tower]
    words += ["--images", vision.data] if vision else []
    run = Run.model_validate({"dataset": "talk", "model": "base", "quants": [model.stem], **run}).model_dump(
        mode="json"
    )
    assert check_parity([*map(str, words), "--settings", json.dumps(run)]) == 0
    write_json(folder / "verdict.json", {"run": "talk", "verdict": "promote", "reason": "no gate", "gates": []})
    write_json(folder / "training.json", {"device": "cpu", "versions": {}, "seconds": 1.0})
    settings = bundle_settings("talk", run, merged, {"files": ["raw.jsonl"], "format": "messages"})
    words = ["--parity", folder / "parity.json", "--test", test, *tower]
    assert build(model, merged, folder, folder / "bundle", settings, *words) == 0
    return folder / "bundle"


def smollm2_bundle(gguf: Path, folder: Path, **parameters) -> Path:
    """Build `folder`/bundle of SmolLM2's GGUF file, with the system message of a pirate, in 8 seconds.

    `parameters` are those of `deploy.parameters`. `folder` gets the run's other files, such as merged and test.jsonl.
    """
    deploy = {"system": SYSTEM, "parameters": {"temperature": 0.0, "num_ctx": 512, **parameters}}
    model = changed(gguf, folder / "q8_0.gguf", {f"general.{key}": value for key, value in NAME.items()})
    merged = dequantized(gguf, folder / "merged", **ORIGIN)
    parity = {"prompts": 1, "max_kl": 0.1}
    return bundle_of(model, merged, folder, {"deploy": deploy, "parity": parity, "generation": {"system": SYSTEM}})
