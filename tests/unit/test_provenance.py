"""What a provenance record says of code, of its environment and of the files read beside raw data."""

import json
import subprocess
import sys

from scripts.common.environment import container_image, kind_of_environment
from scripts.common.files import sha256_of
from scripts.config.load import load_config
from scripts.config.sections import sections_of
from scripts.deploy.provenance import code_state, files_read
from scripts.deploy.read_files import read_facts, read_paths
from tests.support.data import load
from tests.support.needs import need


def test_the_sections_of_a_run_name_its_files_gates_and_the_run_that_redacts(tmp_path, monkeypatch):
    seen, cleaned = (sections_of(load_config(load("provenance_config.yaml")), run) for run in ("seen", "cleaned"))
    assert read_paths(seen) == {
        "run.prompt_sets.style.2.file": "style.jsonl", "dataset.images": "pictures", "model.path": "models/mine",
        "model.chat_template": "mine.jinja", "dataset.corrections": "corrections.jsonl",
    }  # fmt: skip
    assert read_paths(cleaned) == {}
    # People's votes are named if the scores were made with them.
    cleaned["run"]["score"]["votes"] = "votes.jsonl"
    monkeypatch.chdir(tmp_path)
    assert files_read(cleaned, tmp_path, set()) == {}
    (tmp_path / "votes.jsonl").write_text("{}\n")
    assert files_read(cleaned, tmp_path, set()) == {}, "made after the scores, which know nothing of it"
    assert files_read(cleaned, tmp_path, {(tmp_path / "votes.jsonl").resolve()}) == {
        "run.score.votes": {"name": "votes.jsonl", "bytes": 3, "sha256": sha256_of(tmp_path / "votes.jsonl")}
    }
    assert (list(seen["gates"]), list(cleaned["gates"])) == (["all"], ["all", "one"])
    assert (cleaned["redaction"]["run_key"], cleaned["redaction"]["model_key"]) == ("finder", "small")
    assert "redaction" not in seen


def test_a_file_of_corrections_is_recorded_once_the_dataset_is_made_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sections = {"run": {}, "model": {}, "dataset": {"corrections": "review/corrections.jsonl"}}
    assert files_read(sections, tmp_path / "workflow", set()) == {}
    (tmp_path / "review").mkdir()
    (tmp_path / "review/corrections.jsonl").write_text("{}\n")
    assert files_read(sections, tmp_path / "workflow", set()) == {}
    sources = {(tmp_path / "review/corrections.jsonl").resolve()}
    assert files_read(sections, tmp_path / "workflow", sources)["dataset.corrections"] == {
        "name": "review/corrections.jsonl", "bytes": 3, "sha256": sha256_of("review/corrections.jsonl"),
    }  # fmt: skip


def test_each_change_in_a_folder_of_images_changes_its_hash(tmp_path):
    one, three = tmp_path / "a/one.png", tmp_path / "a/three.png"
    for path in (one, tmp_path / "two.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(path.name.encode())
    found = [read_facts("dataset.images", tmp_path)]
    changes = (lambda: one.write_bytes(b"ONE.png"), lambda: one.rename(three), lambda: one.touch(), three.unlink)
    for change in changes:
        change()
        found.append(read_facts("dataset.images", tmp_path))
    assert len({facts["sha256"] for facts in found}) == 1 + len(changes)
    assert (found[-1]["files"], found[-1]["bytes"]) == (2, 7)


def test_of_a_local_model_the_files_that_are_taken_count_and_no_weights(tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("config.json", "model.safetensors", "code.py", "notes.bin", "more/config.json"):
        (tmp_path / name).write_text(name)
    before = read_facts("model.path", tmp_path)
    assert (before["files"], read_facts("model.path", tmp_path, with_code=True)["files"]) == (1, 2)
    (tmp_path / "model.safetensors").write_text("other")
    assert read_facts("model.path", tmp_path) == before
    (tmp_path / "config.json").write_text("other")
    assert read_facts("model.path", tmp_path)["sha256"] != before["sha256"]


def commit(folder) -> None:
    need("git", "git of the distribution")
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    for words in (["init"], ["add", "."], ["commit", "-m", "one"]):
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_a_commit_is_clean_until_code_changes_and_is_not_that_of_a_folder_above(tmp_path):
    (tmp_path / "rules").mkdir()
    for name in ("Snakefile", "rules/score.smk", "notes.txt"):
        (tmp_path / name).write_text("one\n")
    commit(tmp_path)
    clean = code_state(tmp_path)
    (tmp_path / "notes.txt").write_text("two\n")
    assert code_state(tmp_path)["dirty"] is clean["dirty"] is False
    (tmp_path / "rules/score.smk").write_text("two\n")
    changed = code_state(tmp_path)
    assert (changed["dirty"], changed["commit"], len(changed["commit"])) == (True, clean["commit"], 40)
    assert changed["sha256"] != clean["sha256"]
    copy = tmp_path / "snaketune"
    copy.mkdir()
    (copy / "Snakefile").write_text("rule all:\n")
    state = code_state(copy)
    assert (state["commit"], state["dirty"]) == (None, None)
    assert state["files"] == {"Snakefile": sha256_of(copy / "Snakefile")}


def test_whether_code_differs_from_a_commit_that_git_cannot_read_is_not_said(tmp_path):
    (tmp_path / "Snakefile").write_text("rule all:\n")
    commit(tmp_path)
    head = code_state(tmp_path)["commit"]
    (tmp_path / ".git/objects" / head[:2] / head[2:]).unlink()
    state = code_state(tmp_path)
    assert (state["commit"], state["dirty"]) == (head, None)


def test_a_venv_a_conda_environment_and_an_image_are_told_apart(tmp_path):
    labels = tmp_path / "labels.json"
    kinds = [kind_of_environment(sys.base_prefix, labels), kind_of_environment(str(tmp_path), labels)]
    (tmp_path / "conda-meta").mkdir()
    kinds.append(kind_of_environment(str(tmp_path), labels))
    labels.write_text("{}")
    assert [*kinds, kind_of_environment(str(tmp_path), labels)] == ["system", "venv", "conda", "container"]


def test_an_image_has_name_hash_and_labels(tmp_path, monkeypatch):
    labels, image = tmp_path / "labels.json", tmp_path / "images" / "score.sif"
    assert container_image(labels) is None
    labels.write_text(json.dumps({"version": "1.2"}))
    monkeypatch.setenv("APPTAINER_CONTAINER", str(image))
    assert container_image(labels) == {"name": "score.sif", "sha256": None, "labels": {"version": "1.2"}}
    image.parent.mkdir()
    image.write_bytes(b"image")
    assert container_image(labels)["sha256"] == sha256_of(image)
