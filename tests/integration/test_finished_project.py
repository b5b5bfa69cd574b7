"""A whole run from raw file to bundle: what it makes, says and repeats."""

import re
import shutil
from collections import Counter
from pathlib import Path

from scripts.common.files import check_manifest, read_json, read_jsonl, sha256_of
from scripts.score import print_summary
from tests.support.project import ROOT

RUN = "results/runs/cards"
VARIANTS = ("base", "adapter", "merged", "bf16")
NAMES = {
    "{dataset}": ["cards"],
    "{model}": ["small"],
    "{run}": ["cards"],
    "{split}": ["train", "validation", "test"],
    "{variant}": list(VARIANTS),
    "{quant}": ["bf16"],
}


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


def test_every_documented_path_is_made(finished):
    rules = set(finished.planned("--forceall"))
    paths = list(documented_paths(rules))
    assert len(paths) > 30
    # What other tasks make is held against their own rules.
    others = {"redact_records", "tokenize_spans", "convert_mmproj", "draw_confusion"}
    assert set(documented_paths(rules | others)) - set(paths) >= {
        f"{RUN}/gguf/mmproj.gguf",
        f"{RUN}/tokens/labels.json",
    }
    assert [path for path in paths if not (finished.folder / path).exists()] == []


def rules_in(folder):
    """Return the rules with a file in logs or benchmarks: <stage>/<rule>/<names>, or <stage>/<rule> without names."""
    paths = (path.relative_to(folder) for path in folder.rglob("*.*"))
    return {path.parts[1].partition(".")[0] for path in paths}


def test_every_rule_leaves_a_log_and_a_benchmark(finished):
    rules = set(finished.planned("--forceall"))
    assert rules_in(finished.folder / "results/logs") == rules
    assert rules_in(finished.folder / "results/benchmarks") == rules


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


def test_folders_are_whole_and_the_bundle_has_the_right_checksums(finished):
    for manifest in ("results/models/small", f"{RUN}/adapter", f"{RUN}/merged"):
        check_manifest(finished.folder / manifest / "manifest.json", hashes=True)
    bundle = finished.folder / RUN / "bundle"
    sums = dict(reversed(line.split(maxsplit=1)) for line in (bundle / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    assert sums == {name: sha256_of(path) for name, path in files.items() if name != "SHA256SUMS"}
    assert {"Modelfile", "README.md", "provenance.json", "ro-crate-metadata.json"} < sums.keys()


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


def test_the_summary_shows_variants_verdict_and_where_the_report_is(finished, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert print_summary.main([str(finished.folder / "results")]) == 0
    shown = capsys.readouterr().out
    verdict = read_json(finished.folder / RUN / "verdict.json")["verdict"]
    assert all(word in shown for word in (*VARIANTS, verdict, "report"))


def test_a_failed_job_leaves_no_half_written_output_and_the_rest_is_done(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    shutil.rmtree(project.folder / "results/datasets")
    with project.edited("data/cards.jsonl", lambda text: text + '{"prompt": "Minute 99", "kind": "goal"}\n'):
        done = project.snakemake("results/datasets/cards/ledger.json", "--quiet", "host", "reason", "rules")
    assert done.returncode == 1
    assert "data/cards.jsonl:25: has no 'completion'" in done.stdout
    assert "Traceback" not in done.stdout
    assert not list(project.files("results/datasets"))
