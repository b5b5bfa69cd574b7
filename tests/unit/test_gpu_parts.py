"""What runs on a GPU: each part names a run that is there, keeps what it wrote, and ends in its time."""

import sys

from tests.benchmarks.bench_gpu_training import cases
from tests.gpu.run_all import PARTS, run_part


def test_each_part_measures_one_run_of_a_recipe():
    assert [len(cases([run])) for _, _, run in PARTS if run] == [1] * (len(PARTS) - 1)
    assert sum(seconds for _, seconds, _ in PARTS) <= 600


def test_a_part_says_how_it_ended_and_keeps_what_it_wrote(tmp_path):
    def ended(program: str, seconds: float = 60) -> str:
        return run_part([sys.executable, "-c", program], tmp_path / "log", seconds)

    assert ended("") == "done"
    assert ended("raise SystemExit(3)") == "failed with status 3"
    assert ended("import time; print('a row', flush=True); time.sleep(600)", 5) == "cut off after 5 s"
    assert (tmp_path / "log").read_text(encoding="utf-8") == "a row\n"
