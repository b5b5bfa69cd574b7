"""One run on two GPUs: it learns what one GPU learns, on copies of the model and on shares of its weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.common.files import read_json, read_jsonl
from tests.support.gpu import ROOT
from tests.support.training import run_settings

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
NEAR = 2e-2  # of a loss in bf16: the processes add in another order


def trained(chat: Path, base: Path, folder: Path, method: str, **training) -> tuple[dict[int, float], dict]:
    """Train by the command line; return the loss of each step, and the facts."""
    options = {"precision": "bf16", "gradient_checkpointing": True, **training}
    options |= {"learning_rate": 1e-4} if method == "full" else {}
    settings = json.dumps(run_settings(method, training=options))
    words = [sys.executable, "scripts/train/train_model.py", chat / "tokens", "--base", base, "--settings", settings]
    for option, name in (("checkpoints",) * 2, ("output",) * 2, ("curve", "curve.jsonl"), ("facts", "training.json")):
        words += [f"--{option}", folder / name]
    subprocess.run(list(map(str, words)), cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    curve = {row["step"]: row["loss"] for row in read_jsonl(folder / "curve.jsonl") if "loss" in row}
    return curve, read_json(folder / "training.json")


@pytest.mark.parametrize(
    ("method", "sharding"), [("lora", "none"), ("qlora", "none"), ("lora", "fsdp"), ("full", "fsdp")]
)
def test_two_gpus_learn_what_one_learns(chat, tiny_base, tmp_path, method, sharding):
    one, _ = trained(chat, tiny_base, tmp_path / "one", method)
    two, facts = trained(chat, tiny_base, tmp_path / "two", method, processes=2, sharding=sharding)
    assert two == pytest.approx(one, rel=NEAR)
    assert (facts["processes"], facts["sharding"]) == (2, sharding)
