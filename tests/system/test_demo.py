"""The README's demo, from raw file to bundle; it runs once for all tests of this file, and nowhere else.

SNAKETUNE_PICTURES=docs/images pytest tests/system/test_demo.py    also writes the picture of README.md.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

from docs import picture
from scripts.common.files import read_json, sha256_of
from tests.support.checkout import copy_of_the_checkout, make
from tests.support.needs import need

RUNS = ("captions", "pii")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A checkout in which `make demo` has run, and what it printed."""
    folder = copy_of_the_checkout(tmp_path_factory.mktemp("demo"))
    return folder, make(folder, "demo")


def metric(folder: Path, run: str, variant: str, name: str) -> float:
    return read_json(folder / f"results/runs/{run}/scores/{variant}.json")["metrics"][name]["value"]


def test_the_demo_ends_with_tables_verdicts_a_prompt_and_its_answers_the_report_and_what_to_type_next(demo):
    folder, printed = demo
    end = printed[-6000:]
    for word in ("base", "adapter", "q4_k_m", "merged", "results/report.html", "results/leaderboard.html", "Next"):
        assert word in end
    assert all(re.search(rf"^{run} (promote|hold|rollback): ", end, re.MULTILINE) for run in RUNS)
    assert "the test prompt of median difference in chrF" in end
    # Equal answers share a line.
    answers = r"^prompt +\S.*^base +\S.*^adapter(, | +\S.*^)q4_k_m +\S"
    assert re.search(answers, end, re.MULTILINE | re.DOTALL), end
    assert (folder / "results/report.html").is_file()


def test_what_is_shipped_is_better_than_the_base_in_perplexity_characters_and_voice(demo):
    folder, _ = demo
    verdict = read_json(folder / "results/runs/captions/verdict.json")
    assert verdict["verdict"] == "promote"
    better = {gate["metric"]: (gate["low"], gate["high"]) for gate in verdict["gates"] if gate["baseline"] == "base"}
    assert better["perplexity"][1] < 0
    assert better["chrf"][0] > 0
    assert better["emoji_rate"][0] > 0


def test_the_adapter_learned_and_4_bits_keep_most_of_it(demo):
    folder, _ = demo
    base, adapter, shipped = (metric(folder, "captions", name, "perplexity") for name in ("base", "adapter", "q4_k_m"))
    assert adapter < 0.5 * base
    assert shipped < 1.2 * adapter


def test_the_head_reads_the_layer_that_the_validation_split_chose_and_finds_personal_data(demo):
    folder, _ = demo
    training = read_json(folder / "results/runs/pii/training.json")
    losses = training["loss_by_layer"]
    assert training["layer"] == int(min(losses, key=losses.get)) < training["base_layers"]
    assert metric(folder, "pii", "merged", "token_f1_micro") > 0.6


def test_the_base_and_the_report_say_how_weights_were_rounded(demo):
    folder, _ = demo
    assert read_json(folder / "results/models/smollm2/manifest.json")["gguf"]["bits"] == 4
    run = folder / "results/runs/captions"
    card, page = ((run / name).read_text(encoding="utf-8") for name in ("bundle/README.md", "report.html"))
    assert "The base was rounded to 4 bits before training" in card
    assert "The base was rounded to 4 bits before training" in page
    assert "q5_0" in page


@pytest.mark.parametrize("run", RUNS)
def test_the_bundles_checksums_hold(demo, run):
    folder, _ = demo
    bundle = folder / f"results/runs/{run}/bundle"
    lines = (bundle / "SHA256SUMS").read_text().splitlines()
    assert len(lines) >= 6
    for line in lines:
        digest, name = line.split(maxsplit=1)
        assert sha256_of(bundle / name) == digest


def test_a_second_demo_does_no_job(demo):
    folder, _ = demo
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*") if path.is_file()}
    printed = make(folder, "demo")
    assert "Nothing to be done" in printed
    assert {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*") if path.is_file()} == before


def test_the_readmes_picture_is_taken_of_the_report(demo, tmp_path):
    if not any(map(shutil.which, picture.BROWSERS)):
        need(picture.BROWSERS[0], "tests/system/install_chromium.sh")
    target = Path(os.environ.get("SNAKETUNE_PICTURES", tmp_path)) / "report.png"
    assert picture.main([str(demo[0] / "results/runs/captions/report.html"), str(target)]) == 0
    assert 20_000 < target.stat().st_size <= picture.LARGEST
