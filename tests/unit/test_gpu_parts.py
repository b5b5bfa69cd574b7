"""What runs on a GPU: each part names a run that is there, keeps what it wrote, and ends in its time."""

import json
import sys
from pathlib import Path

import pytest

from scripts.common.files import write_json
from scripts.workflow.memory.estimate import GIB
from scripts.workflow.memory.shapes import KNOWN
from tests.benchmarks import bench_cuda_training
from tests.benchmarks.bench_cuda_training import BASE, COMPARED, compared_run, mfu
from tests.benchmarks.compare import Ran
from tests.benchmarks.cuda_cases import cases
from tests.gpu import run_all
from tests.gpu.run_all import PARTS, run_part


def test_each_part_measures_one_run_of_a_recipe_or_a_comparison_and_all_fit_in_ten_minutes():
    for _, _, options in PARTS:
        if "--recipes" in options:
            assert len(cases(options[options.index("--recipes") + 1 :])) == 1
        elif options:
            assert options[options.index("--cases") + 1] in COMPARED
    assert sum(seconds for _, seconds, _ in PARTS) <= 600


def test_without_a_gpu_nothing_is_measured_and_one_line_says_so(monkeypatch, tmp_path, capsys):
    for module, words in ((bench_cuda_training, []), (run_all, ["--folder", str(tmp_path)])):
        monkeypatch.setattr(module, "device", lambda: None)
        assert module.main(words) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert "There is no CUDA GPU: nothing was" in line


def test_a_comparison_takes_the_largest_micro_batch_that_the_estimate_lets_a_gpu_hold():
    shape = KNOWN[BASE]

    def training(method: str, length: int, gib: int):
        return compared_run(shape, method, length, {"bytes": gib * GIB}).training

    fast, slow, wide = training("lora", 4096, 80), training("lora", 4096, 40), training("lora", 4096, 140)
    assert [each.micro_batch * each.accumulation for each in (fast, slow, wide)] == [4, 4, 4]
    assert (fast.micro_batch, fast.gradient_checkpointing) == (1, False)
    assert (slow.gradient_checkpointing, wide.gradient_checkpointing) == (True, False)
    assert wide.micro_batch > fast.micro_batch
    with pytest.raises(SystemExit, match="fits no GPU with 12 GiB"):
        training("lora", 4096, 12)
    assert mfu(12_473, shape, "NVIDIA H100 80GB HBM3") == pytest.approx(100 * 402 / 989, rel=0.01)
    assert mfu(1, shape, "another") is None


def test_trl_takes_gradient_checkpointing_when_it_runs_out_of_memory(monkeypatch, tmp_path):
    asked = []

    def run(command, **_):
        spec = json.loads(command[-1])
        asked.append(spec["options"]["gradient_checkpointing"])
        if not asked[-1]:
            raise SystemExit("torch.OutOfMemoryError: CUDA out of memory")
        write_json(Path(command[3]), {"taken": 2 * GIB})
        found = {"tokens": 100, "seconds": 4, "padding": 0.25, "losses": [9, 2, 3]}
        return Ran(5, 5, 1, f"a warning\n{json.dumps(found)}\n")

    monkeypatch.setattr(bench_cuda_training.harness, "run", run)
    settings = compared_run(KNOWN[BASE], "lora", 4096, {"bytes": 80 * GIB})
    base = Path("base/manifest.json")
    numbers = bench_cuda_training.trl(Path("python"), "TRL", base, tmp_path, settings, tmp_path / "trl")
    assert asked == [False, True]
    assert numbers["tokens/s"] == 25
    assert (numbers["% padding"], numbers["loss"], numbers["GiB"], numbers["checkpointing"]) == (25, 3, 2, 1)


def test_a_part_says_how_it_ended_and_keeps_what_it_wrote(tmp_path):
    def ended(program: str, seconds: float = 60) -> str:
        return run_part([sys.executable, "-c", program], tmp_path / "log", seconds)

    assert ended("") == "done"
    assert ended("raise SystemExit(3)") == "failed with status 3"
    assert ended("import time; print('a row', flush=True); time.sleep(600)", 5) == "cut off after 5 s"
    assert (tmp_path / "log").read_text(encoding="utf-8") == "a row\n"
