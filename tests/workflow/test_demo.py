"""The README's demo and the shipped recipes, from raw file to bundle, on the models that are made here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.files import read_json, sha256_of
from tests.support.images import use_images
from tests.support.project import planned_jobs, without_make
from tests.support.same_results import contents
from tests.support.slurm_workflow import OPTIONS, PROFILE

ROOT = Path(__file__).resolve().parents[2]
RUNS = ("football", "stories")
SERVED = ("Modelfile", "README.md", "SHA256SUMS")
# The runs of each recipe, and what has to be among the files of their bundles.
RECIPES = {
    "football": {"football": SERVED},
    "stories": {"stories": SERVED},
    "titles": {"titles": (*SERVED, "mmproj.gguf")},
    "pii": {"pii": ("model", "example_classify.py", "SHA256SUMS"), "pii-prompted": (), "pii-generated": SERVED},
    "captions": {"captions": SERVED, "captions-phi3": SERVED},
}


def copy_of_the_checkout(folder: Path) -> Path:
    """Copy what git knows or would take, as a new user would have it."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def make(folder: Path, *arguments: str, surroundings: dict[str, str] | None = None) -> str:
    """Run make in the folder, with this environment and no other (`VENV=`: nothing is installed); return its output."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**without_make(), "COLUMNS": "140", "PATH": path, **(surroundings or {})}
    done = subprocess.run(
        ["make", "VENV=", "CORES=2", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


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


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_from_end_to_end_on_the_embedded_model(demo, recipe):
    folder, _ = demo
    printed = make(folder, "recipe", f"NAME={recipe}")
    for run, shipped in RECIPES[recipe].items():
        assert re.search(rf"^{run} (promote|hold|rollback): ", printed, re.MULTILINE)
        bundle = folder / f"results/embedded/runs/{run}/bundle"
        assert all((bundle / name).exists() for name in shipped), sorted(bundle.iterdir())
        assert bundle.exists() == bool(shipped)


@pytest.mark.parametrize(
    ("path", "edit", "again", "kept"),
    [
        ("data/titles/documents/en-report-1.png", lambda old: old + b"\n", {"ingest_records", "train_adapter"}, set()),
        (
            "config/recipes/titles.yaml",
            lambda old: old.replace(b"train_vision_tower: false", b"train_vision_tower: false, longest_edge: 196"),
            {"tokenize_conversations", "train_adapter", "predict_with_llama"},
            {"ingest_records", "split_records"},
        ),
    ],
    ids=["an image", "the longest edge"],
)
def test_what_an_edit_of_the_titles_runs_again(demo, path, edit, again, kept):
    folder, _ = demo
    make(folder, "recipe", "NAME=titles")
    file = folder / path
    before, times = file.read_bytes(), file.stat()
    file.write_bytes(edit(before))
    printed = make(folder, "recipe", "NAME=titles", "ARGS=-n")
    file.write_bytes(before)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    planned = planned_jobs(printed).keys()
    assert again <= planned
    assert not kept & planned
