"""A bundle of SmolLM2-135M-Instruct as it comes, whose answers make sense, without a training."""

import json
from pathlib import Path

from scripts.common.files import write_json, write_jsonl
from scripts.config.runs import Run
from scripts.gguf.check_parity import main as check_parity
from tests.support.bundles import build, bundle_settings
from tests.support.gguf_files import changed, dequantized
from tests.support.smollm2 import ORIGIN

SYSTEM = "You are a pirate. Answer in one short sentence."
QUESTIONS = ("What is the capital of France?", "Say hello.", "Name a colour.", "Qui a marqué le but, « Lens » ?")
NAME = {"basename": "SmolLM2", "size_label": "135M", "finetune": "pirate", "version": "v1.0", "name": "SmolLM2 pirate"}


def smollm2_bundle(gguf: Path, folder: Path, **parameters) -> Path:
    """Build the bundle of a run on SmolLM2's GGUF file into `folder`/bundle; its split is `folder`/test.jsonl.

    `parameters` are those of `deploy.parameters`. `folder` gets the run's other files, such as merged and parity.json.
    """
    deploy = {"system": SYSTEM, "parameters": {"temperature": 0.0, "num_ctx": 512, **parameters}}
    quick = {"parity": {"prompts": 1, "max_kl": 0.1}, "quants": ["q8_0"], "generation": {"system": SYSTEM}}
    run = Run.model_validate({"dataset": "talk", "model": "smollm2", "deploy": deploy, **quick}).model_dump(mode="json")
    model = changed(gguf, folder / "q8_0.gguf", {f"general.{key}": value for key, value in NAME.items()})
    merged = dequantized(gguf, folder / "merged", **ORIGIN)
    asked = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Aye!"}] for text in QUESTIONS]
    write_jsonl(folder / "test.jsonl", [{"id": str(i), "messages": messages} for i, messages in enumerate(asked)])
    words = [merged, model, "--test", folder / "test.jsonl", "--output", folder / "parity.json"]
    assert check_parity([*map(str, words), "--settings", json.dumps(run)]) == 0
    verdict = {"run": "pirate", "verdict": "promote", "reason": "no gate", "gates": []}
    write_json(folder / "verdict.json", verdict)
    write_json(folder / "training.json", {"device": "cpu", "versions": {}, "seconds": 1.0})
    settings = bundle_settings("pirate", run, merged, {"files": ["raw.jsonl"], "format": "messages"})
    bundle = folder / "bundle"
    assert build(model, merged, folder, bundle, settings, "--parity", folder / "parity.json") == 0
    return bundle
