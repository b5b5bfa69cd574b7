"""After a failure the same command fails again until its cause is mended, and no bundle names what nothing was made of.

The project is finished before the failure: everything that depends on the failed step is there from that run.
"""

import json
import shutil

import pytest

from scripts.common.files import read_json, sha256_of

QUIET = ("--quiet", "host", "reason", "rules")
BROKEN_ROW = '{"prompt": "Minute 99", "kind": "goal"}\n'
FAULT = "data/cards.jsonl:25: has no 'completion'"
BUNDLE = "results/runs/cards/bundle"
DATASET = "results/datasets/cards"


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project, to break."""
    return finished.copy(tmp_path / "project")


def add_broken_row(project) -> None:
    """Append a row without a completion to the raw file."""
    raw = project.folder / "data/cards.jsonl"
    raw.write_text(raw.read_text(encoding="utf-8") + BROKEN_ROW, encoding="utf-8")


def test_a_broken_row_fails_each_time_whatever_is_asked_for_and_its_mending_makes_all_anew(project):
    before = (project.folder / "data/cards.jsonl").read_text(encoding="utf-8")
    add_broken_row(project)
    for target in ((), (), ("results/runs/cards/report.html",), (f"{BUNDLE}/SHA256SUMS",)):
        done = project.snakemake(*target, *QUIET)
        assert (done.returncode, FAULT in done.stdout) == (1, True), done.stdout
    project.write("data/cards.jsonl", before)
    planned = project.planned()
    assert planned == project.planned("--forcerun", "ingest_records")
    assert {"ingest_records", "train_adapter", "build_bundle", "write_leaderboard"} <= planned.keys()


def test_a_wrong_column_fails_each_time_until_it_is_mended(project):
    wrong = "    columns: {prompt: q}\n    label: kind"
    with project.edited("config/config.yaml", lambda text: text.replace("    label: kind", wrong)):
        for _ in range(2):
            done = project.snakemake(*QUIET)
            assert (done.returncode, "no 'q'" in done.stdout) == (1, True), done.stdout
    assert "ingest_records" in project.planned()


def test_another_dataset_is_not_held_up_by_a_failed_one(project):
    more = "  others:\n    files: [data/others.jsonl]\n    format: messages\nmodels:\n"
    turn = [{"role": "user", "content": "Minute 1"}, {"role": "assistant", "content": "But !"}]
    project.write("data/others.jsonl", json.dumps({"messages": turn}) + "\n")
    with project.edited("config/config.yaml", lambda text: text.replace("models:\n", more, 1)):
        add_broken_row(project)
        assert project.snakemake(f"{DATASET}/ledger.html", *QUIET).returncode == 1
        assert project.planned("results/datasets/others/ledger.json") == {
            "ingest_records": 1,
            "split_records": 1,
            "write_dataset_ledger": 1,
        }


def test_files_that_are_put_back_after_a_failure_and_touched_make_no_bundle(project):
    kept = shutil.copytree(project.folder / DATASET, project.folder / "kept")
    recorded = read_json(project.folder / BUNDLE / "provenance.json")["data"]["files"][0]["sha256"]
    add_broken_row(project)
    assert project.snakemake(*QUIET).returncode == 1
    assert read_json(project.folder / BUNDLE / "provenance.json")["data"]["files"][0]["sha256"] == recorded
    assert sha256_of(project.folder / "data/cards.jsonl") != recorded
    shutil.copytree(kept, project.folder / DATASET, dirs_exist_ok=True)
    touched = project.snakemake("--touch", *QUIET)
    assert touched.returncode == 0, touched.stdout
    (project.folder / BUNDLE / "SHA256SUMS").unlink()
    assert project.planned() == {"build_bundle": 1}
    done = project.snakemake(*QUIET)
    line = f"{DATASET}/ingested.parquet: was made from data/cards.jsonl, which has changed since; "
    assert done.returncode == 1
    assert line in done.stdout
    # The remedy that the line names works: the bundle's cause of failure is the row again.
    (project.folder / DATASET / "ingested.parquet").unlink()
    done = project.snakemake(*QUIET)
    assert (done.returncode, FAULT in done.stdout) == (1, True), done.stdout
