"""What a training step takes of a GPU, against the estimate of scripts/workflow/memory."""

import gc

import pytest
import torch

from scripts.config.runs import Run
from scripts.workflow.memory.shapes import Shape

MIDDLE = Shape(32768, 2048, 8192, 24, 32, 8, 64)  # 1.5 billion weights: more than the reserve by far, quickly written
WITHIN = 0.15  # of what is taken
TASKS = {"head": "token_classification"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The manifest of a model of that shape with random weights."""
    from tests.support.random_base import write_random_base

    return write_random_base(tmp_path_factory.mktemp("middle") / "base", "mistral", MIDDLE, 4096)


@pytest.mark.parametrize(
    ("method", "micro_batch", "checkpointing"),
    [("qlora", 8, True), ("qlora", 2, False), ("lora", 8, True), ("lora", 2, False), ("head", 4, False)],
)
def test_the_estimate_is_near_what_is_taken(base, tmp_path, method, micro_batch, checkpointing):
    from scripts.common.files import read_json
    from scripts.workflow.memory.estimate import GIB, training_memory
    from tests.benchmarks.cuda_cases import Case, train
    from tests.support.full_rows import write_full_rows

    training = {"micro_batch": micro_batch, "accumulation": 2, "max_steps": 3, "logging_steps": 1}
    training |= {"gradient_checkpointing": checkpointing}
    sections = {"task": TASKS.get(method, "chat"), "tokens": {"max_length": 1024}, "training": training}
    run = Run.model_validate({"dataset": "d", "model": "m", "method": method, **sections})
    write_full_rows(tmp_path / "tokens", base, tmp_path, run, MIDDLE.vocabulary, 6 * micro_batch)
    gc.collect()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    before = total - free  # by this process among others
    assert train(Case("recipe", "run", "base", "mistral", run), run, base, tmp_path) is None
    assert read_json(tmp_path / "training.json")["attempt"] == 1
    taken = read_json(tmp_path / "taken.json")
    assert taken["allocated"] <= taken["reserved"] <= taken["taken"]
    assert training_memory(MIDDLE, run).gib == pytest.approx((taken["taken"] - before) / GIB, rel=WITHIN)


def test_the_benchmark_says_what_is_taken(tmp_path, capsys):
    from tests.benchmarks.bench_cuda_training import main

    words = ["--scale", "tiny", "--steps", "2", "--folder", str(tmp_path), "--recipes", "football", "pii.pii"]
    assert main(words) == 0
    rows = [line.strip("|").split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 2
    for row in rows:
        allocated, reserved, taken = (float(cell) for cell in row[4:7])
        assert 0 <= allocated <= reserved <= taken
