"""The README's demo, from raw file to bundle: on this machine, in containers, and on a cluster."""

import re
from pathlib import Path

import pytest

from scripts.common.files import read_json, sha256_of
from tests.support.checkout import copy_of_the_checkout, make
from tests.support.images import use_images
from tests.support.same_results import contents
from tests.support.slurm_workflow import OPTIONS, PROFILE

RUNS = ("football", "stories")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A checkout in which `make demo` has run, and what it printed."""
    folder = copy_of_the_checkout(tmp_path_factory.mktemp("demo"))
    return folder, make(folder, "demo")


def metric(folder: Path, run: str, variant: str, name: str) -> float:
    return read_json(folder / f"results/runs/{run}/scores/{variant}.json")["metrics"][name]["value"]


def test_the_demo_ends_with_a_table_verdicts_the_report_and_what_to_type_next(demo):
    folder, printed = demo
    end = printed[-4000:]
    for word in ("base", "adapter", "merged", "bf16", "q8_0", "q4_k_m", "results/report.html", "Next"):
        assert word in end
    assert all(re.search(rf"^{run} (promote|hold|rollback): ", end, re.MULTILINE) for run in RUNS)
    assert "mean nothing beyond seeing that everything works" in end
    assert (folder / "results/report.html").is_file()


@pytest.mark.parametrize("run", RUNS)
def test_the_adapter_is_less_surprised_by_the_test_split_than_the_base(demo, run):
    folder, _ = demo
    assert metric(folder, run, "adapter", "perplexity") < metric(folder, run, "base", "perplexity")


@pytest.mark.parametrize("run", RUNS)
def test_8_bits_cost_less_than_2_percent_of_perplexity(demo, run):
    folder, _ = demo
    exact, quantized = (metric(folder, run, variant, "perplexity") for variant in ("bf16", "q8_0"))
    assert abs(quantized - exact) < 0.02 * exact


@pytest.mark.parametrize("run", RUNS)
def test_the_merged_model_and_its_bf16_gguf_agree_with_the_adapter(demo, run):
    folder, _ = demo
    adapter = metric(folder, run, "adapter", "perplexity")
    for variant in ("merged", "bf16"):
        assert metric(folder, run, variant, "perplexity") == pytest.approx(adapter, rel=0.02)


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


def assert_same_results(folder: Path, demo: Path) -> None:
    """Assert that a run of the demo has made what the other has: the same files, alike but for times and machines."""
    found, expected = contents(folder), contents(demo)
    assert found.keys() == expected.keys()
    machine = ("provenance.json", "training.json", ".finished.json")  # each says in which environment it was made
    assert [name for name in found if not name.endswith(machine) and found[name] != expected[name]] == []


def test_the_demo_makes_the_same_in_containers(demo, images, tmp_path):
    folder = copy_of_the_checkout(tmp_path)
    use_images(folder)
    make(folder, "demo", "ARGS=--sdm apptainer")
    assert_same_results(folder, demo[0])


def test_the_demo_makes_the_same_on_a_cluster(demo, slurm, tmp_path):
    folder = copy_of_the_checkout(tmp_path)
    before = {job["JobId"] for job in slurm.jobs()}
    flags = ("--workflow-profile", PROFILE, *OPTIONS)
    make(folder, "demo", f"ARGS={' '.join(flags)}", surroundings=slurm.environment)
    assert_same_results(folder, demo[0])
    # Of the last ten minutes; tests/system/test_slurm.py looks at each.
    assert {job["JobState"] for job in slurm.jobs() if job["JobId"] not in before} == {"COMPLETED"}
