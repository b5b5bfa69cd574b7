"""A whole run from raw file to bundle: what it makes and says, and what a failure after it leaves."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from scripts.common.files import check_manifest, read_json, read_jsonl
from tests.support.project import ROOT

RUN, FAULT = "results/runs/cards", "data/cards.jsonl:25: has no 'completion'"
VARIANTS = ("base", "adapter", "merged", "bf16")
OTHERS = "  others: {files: [data/others.jsonl], format: messages}\n"
NAMES = {"{dataset}": ["cards"], "{model}": ["small"], "{run}": ["cards"], "{quant}": ["bf16"]}
NAMES |= {"{split}": ["train", "validation", "test"], "{variant}": VARIANTS}


def documented_paths(rules):
    """Return the paths of docs/reference/paths.md that these rules make, names filled in."""
    page = (ROOT / "docs/reference/paths.md").read_text(encoding="utf-8")
    for cell, makers in re.findall(r"^\| (`[^|]*) \|.*\| ([^|]*) \|$", page, re.MULTILINE):
        named = set(re.findall(r"`(\w+)`", makers))
        if named and not named & rules:
            continue
        first, *others = re.findall(r"`([^`]+)`", cell)
        for path in (first, *(str(Path(first).with_suffix(o)) if o.startswith(".") else o for o in others)):
            paths = [path]
            for placeholder, names in NAMES.items():
                paths = [p.replace(placeholder, name) for p in paths for name in (names if placeholder in p else [""])]
            yield from (f"results/{p}" for p in paths if "{" not in p)


def test_every_documented_path_is_made_and_every_rule_leaves_a_log_and_a_benchmark(finished):
    rules = set(finished.planned("--forceall"))
    paths = list(documented_paths(rules))
    assert len(paths) > 30
    assert [path for path in paths if not (finished.folder / path).exists()] == []
    for name in ("logs", "benchmarks"):  # <stage>/<rule>/<names>, or <stage>/<rule> without names
        folder = finished.folder / "results" / name
        found = {path.relative_to(folder).parts[1].partition(".")[0] for path in folder.rglob("*.*")}
        assert found == rules, name


def test_steps_keep_their_bytecode_though_the_environment_forbids_it(finished):
    assert list(finished.folder.glob("scripts/train/__pycache__/callbacks.*.pyc"))


def test_every_variant_answers_every_prompt_and_has_scores(finished):
    for variant in VARIANTS:
        answers = list(read_jsonl(finished.folder / f"{RUN}/answers/{variant}.jsonl"))
        test = list(read_jsonl(finished.folder / "results/datasets/cards/test.jsonl"))
        assert Counter(row["prompt_set"] for row in answers) == {"test": len(test), "more": 1}
        scores = read_json(finished.folder / f"{RUN}/scores/{variant}.json")
        perplexity = scores["metrics"]["perplexity"]
        assert perplexity["low"] <= perplexity["value"] <= perplexity["high"]


def test_the_folders_of_models_are_whole(finished):
    for manifest in ("results/models/small", f"{RUN}/adapter", f"{RUN}/merged"):
        check_manifest(finished.folder / manifest / "manifest.json", hashes=True)


def test_no_result_names_a_folder_of_this_machine(finished, tmp_path_factory):
    here = str(tmp_path_factory.getbasetemp()).partition("/popen-")[0].encode()
    named = [path for path in finished.files("results") if "logs" not in path.parts and here in path.read_bytes()]
    assert [str(path.relative_to(finished.folder)) for path in named] == []


def test_the_report_is_one_file_with_all_categories(finished):
    done = finished.snakemake("--quiet", "all", "--report", "report.html")
    assert done.returncode == 0, done.stdout
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    for category in ("Datasets", "Training", "Scores"):
        assert category in page
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=\"https?:", page)


@pytest.fixture
def broken(finished, tmp_path):
    """A copy of the finished project with a row without a completion at the end of its raw file."""
    project = finished.copy(tmp_path / "project")
    with (project.folder / "data/cards.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"prompt": "Minute 99", "kind": "goal"}\n')
    return project


def assert_fails(project, said: str, *targets: str) -> None:
    done = project.snakemake(*targets, "--quiet", "host", "reason", "rules")
    assert (done.returncode, said in done.stdout, "Traceback" in done.stdout) == (1, True, False), done.stdout


def test_a_broken_row_fails_each_time_whatever_is_asked_for_and_its_mending_makes_all_anew(finished, broken):
    for targets in ((), (f"{RUN}/bundle/SHA256SUMS",)):
        assert_fails(broken, FAULT, *targets)
    left = {path.name for path in broken.files("results/datasets/cards")}
    assert not left & {"ingested.parquet", "quarantine.jsonl", "ingest.json"}  # not even half written
    turn = [{"role": "user", "content": "Minute 1"}, {"role": "assistant", "content": "But !"}]
    broken.write("data/others.jsonl", json.dumps({"messages": turn}) + "\n")
    with broken.edited("config/config.yaml", lambda text: text.replace("models:\n", OTHERS + "models:\n", 1)):
        planned = broken.planned("results/datasets/others/ledger.json")
    assert planned == dict.fromkeys(("ingest_records", "split_records", "write_dataset_ledger"), 1)
    shutil.copyfile(finished.folder / "data/cards.jsonl", broken.folder / "data/cards.jsonl")
    planned = broken.planned()
    assert planned == broken.planned("--forcerun", "ingest_records")
    assert {"ingest_records", "train_adapter", "build_bundle", "write_leaderboard"} <= planned.keys()


def test_files_that_are_put_back_after_a_failure_and_touched_make_no_bundle(finished, broken):
    assert_fails(broken, FAULT)
    record = f"{RUN}/bundle/provenance.json"
    assert (broken.folder / record).read_bytes() == (finished.folder / record).read_bytes()
    datasets = "results/datasets"
    shutil.copytree(finished.folder / datasets, broken.folder / datasets, dirs_exist_ok=True)
    assert broken.snakemake("--touch").returncode == 0
    (broken.folder / RUN / "bundle/SHA256SUMS").unlink()
    assert broken.planned() == {"build_bundle": 1}
    ingested = "results/datasets/cards/ingest.json"
    assert_fails(broken, f"{ingested}: was made from data/cards.jsonl, which has changed since; ")
    # The remedy that the line names works: the bundle's cause of failure is the row again.
    (broken.folder / ingested).unlink()
    assert_fails(broken, FAULT)


def test_a_bundle_is_delivered_only_by_the_target_deliver_and_its_target_builds_nothing_again(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    done = project.snakemake("deliver", "--quiet", "host", "reason", "rules")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "no run has a deploy.target: name a folder there")
    target = f"deploy: {{quant: bf16, target: {{folder: {tmp_path}/releases}}, soak: {{burst: 2}}}}"
    with project.edited("config/config.yaml", lambda text: text.replace("deploy: {quant: bf16}", target)):
        assert project.planned() == Counter()
        done = project.snakemake("deliver", "--quiet", "host", "reason", "rules")
        refused = (
            "bundle: not delivered: its verdict is hold, not promote: Don't ship this: the base model is a stand-in"
        )
        assert (done.returncode, done.stdout.count(refused)) == (1, 1), done.stdout
        assert not (tmp_path / "releases").exists()
        forced = f'folder: {tmp_path}/releases, force: the stand-in\'s "demo"'
        with project.edited("config/config.yaml", lambda text: text.replace(f"folder: {tmp_path}/releases", forced)):
            assert project.snakemake("deliver", "--quiet", "host", "reason", "rules").returncode == 0
            assert project.planned("deliver", "soak") == {"soak_bundle": 1}
    assert read_json(project.folder / RUN / "delivered.json")["forced"] == 'the stand-in\'s "demo"'
    assert (tmp_path / "releases/current/SHA256SUMS").read_bytes() == (
        project.folder / RUN / "bundle/SHA256SUMS"
    ).read_bytes()
