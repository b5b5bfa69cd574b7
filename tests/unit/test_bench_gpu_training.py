"""The benchmark of training steps: bases of the right shape, rows that are full, and a table, on any machine."""

import json
import subprocess
import sys
from collections import namedtuple

import pytest

from scripts.common.chat import IGNORED
from scripts.common.config.runs import Run
from scripts.common.files import read_json
from scripts.common.memory.estimate import GIB
from scripts.common.memory.shapes import KNOWN, shape_of_config
from tests.benchmarks import bench_gpu_training as bench
from tests.benchmarks.bench_gpu_training import Case, cases, main, table_row, tiny
from tests.support.full_rows import grids_that_fill, image_rows, text_rows
from tests.support.random_base import empty_model, write_random_base

ARCHITECTURES = {
    "mistral": "mistralai/Mistral-7B-v0.3",
    "llama": "meta-llama/Llama-3.1-8B-Instruct",
    "phi3": "microsoft/Phi-3-mini-4k-instruct",
    "mistral3": "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
}


class Ids:
    """What a tokenizer says of its special tokens."""

    bos_token_id, eos_token_id, pad_token_id = 1, 2, 0

    def convert_tokens_to_ids(self, token):
        return 3


@pytest.fixture(scope="module")
def vision_base(tmp_path_factory):
    """The manifest of a tiny Mistral 3 with random weights."""
    folder = tmp_path_factory.mktemp("random") / "base"
    return write_random_base(folder, "mistral3", tiny(KNOWN[ARCHITECTURES["mistral3"]]), 4096, 112)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_base_has_the_weights_of_the_real_model(architecture):
    shape = KNOWN[ARCHITECTURES[architecture]]
    model = empty_model(architecture, shape, Ids(), 4096, 1540)
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == shape.parameters
    assert shape_of_config(model.config.to_dict()) == shape


@pytest.mark.parametrize("architecture", ["mistral", "phi3"])
def test_a_base_in_several_files_loads_whole_and_is_not_constant(architecture, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    shape = tiny(KNOWN[ARCHITECTURES[architecture]])
    manifest = write_random_base(tmp_path / "base", architecture, shape, 4096, shard_bytes=400_000)
    assert len(list(manifest.parent.glob("*.safetensors"))) > 2
    model, found = AutoModelForCausalLM.from_pretrained(manifest.parent, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert model.dtype == torch.bfloat16
    logits = model(torch.arange(700, 716)[None]).logits.float()
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


def test_a_vision_base_loads_whole(vision_base):
    from transformers import AutoModelForImageTextToText

    _, found = AutoModelForImageTextToText.from_pretrained(vision_base.parent, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]


@pytest.mark.parametrize(("length", "largest"), [(4088, 55), (2040, 38), (56, 4), (700, 4)])
def test_images_fill_a_row(length, largest):
    tokens = [rows * (columns + 1) for rows, columns in grids_that_fill(length, largest)]
    assert length - 64 < sum(tokens) <= length


def test_rows_are_full_and_hold_images_where_their_tokens_are(vision_base, tmp_path):
    from scripts.common.vision import load_processor

    processor = load_processor(vision_base)
    (row,) = image_rows(processor, tmp_path, 1024, 128, 1)
    tokens = [token in processor.image_token_ids for token in row["input_ids"]]
    assert (len(row["input_ids"]), len(row["images"]), sum(tokens)) == (128, 3, 60)
    assert all((label == IGNORED) >= image for label, image in zip(row["labels"], tokens, strict=True))
    (row,) = text_rows(processor.tokenizer, 1024, 128, 1)
    assert len(row["input_ids"]) == 128
    assert min(row["input_ids"][1:]) >= len(processor.tokenizer)
    assert max(row["input_ids"]) < 1024


def test_cases_are_the_trained_runs_those_of_one_base_together():
    names = [case.name for case in cases(bench.RECIPES)]
    assert names == ["captions", "captions-phi3", "stories", "football", "pii", "pii-generated", "titles"]
    assert [case.name for case in cases(["captions-phi3", "pii.pii"])] == ["captions-phi3", "pii"]
    assert "titles" not in {case.name for case in cases(bench.RECIPES, "t4")}
    (smaller,) = cases(["titles"], "24gb")
    assert smaller.run.tokens.max_length == 2048


def test_a_row_of_the_table_holds_what_was_measured_against_the_estimate():
    run = Run.model_validate({"dataset": "d", "model": "m", "method": "qlora", "tokens": {"max_length": 100}})
    taken = {"allocated": 8 * GIB, "reserved": 9 * GIB, "taken": 10 * GIB}
    curve = [{"step": step, "loss": 1.0, "seconds": seconds} for step, seconds in enumerate([9, 9, 9, 2, 2, 2.5])]
    row = table_row(Case("r", "n", "b", "mistral", run), run, 11.0, taken, curve, {"attempt": 2, "micro_batch": 2})
    assert row == [
        "r: n", "4 x 100, ran out of memory, then 2 x 100", "yes", "11.0", "8.0", "9.0", "10.0", "1.10", "2.00", "800"
    ]  # fmt: skip


def test_text_head_and_images_are_measured_on_any_machine(tmp_path, capsys):
    output = tmp_path / "table.md"
    words = ["--scale", "tiny", "--steps", "2", "--folder", tmp_path / "work", "--output", output]
    assert main([str(word) for word in [*words, "--recipes", "captions-phi3", "pii.pii", "titles"]]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[:3] for row in rows] == [
        ["captions: captions-phi3", "4 x 64", "yes"],
        ["pii: pii", "4 x 64", "no"],
        ["titles: titles", "1 x 64", "yes"],
    ]
    assert all(len(row) == len(bench.COLUMNS) for row in rows)
    assert all(float(row[3]) > 0 and float(row[-1].replace(",", "")) > 0 for row in rows)
    assert "\n".join(lines) in output.read_text(encoding="utf-8")
    assert list((tmp_path / "work").iterdir()) == []


def test_what_has_no_room_is_said_and_left_out(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(bench.shutil, "disk_usage", lambda _: usage(0, 0, 10 * GIB))
    card = {"name": "a card", "bytes": 20 * GIB}
    assert list(bench.measure(cases(["titles", "football"]), 30, tmp_path, "real", card)) == [
        "football: football: not run, 15.5 GiB of disk are needed and 10.0 are free",
        "titles: titles: not run, 54.9 GiB are estimated and the GPU has 20.0",
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [([], "there is no CUDA GPU"), (["--recipes", "chess"], "'chess' is no recipe and no trained run of one")],
)
def test_what_can_not_be_measured_is_one_line(words, line, monkeypatch, capsys):
    monkeypatch.setattr(bench, "device", lambda: None)
    with pytest.raises(SystemExit):
        main(words)
    assert line in capsys.readouterr().err


def test_a_measured_program_runs_as_it_would_alone(tmp_path):
    (tmp_path / "program.py").write_text("import sys\nprint(__name__, sys.argv[1:])\nsys.exit(3)\n")
    words = ["-m", "tests.support.measured_program", tmp_path / "taken.json", tmp_path / "program.py", "a", "-b"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, cwd=bench.ROOT)
    assert (done.returncode, done.stdout) == (3, "__main__ ['a', '-b']\n")
    assert read_json(tmp_path / "taken.json") == json.loads("{}")
