"""What a run reads beside its raw data: what it is, and that a change of it changes what is recorded."""

import pytest

from scripts.common.config.load import load_config
from scripts.common.config.sections import sections_of
from scripts.deploy.read_files import read_facts, read_paths

RAW = {
    "datasets": {
        "pages": {"files": ["raw.jsonl"], "format": "messages", "images": "pictures"},
        "letters": {"files": ["letters.jsonl"], "format": "spans", "span_label_map": {"name": "NAME"}},
        "clean": {"files": ["raw.jsonl"], "format": "messages", "redact": {"run": "finder"}},
    },
    "models": {
        "mine": {"path": "models/mine", "architecture": "mistral3", "chat_template": "mine.jinja"},
        "small": {"embedded": {}, "chat_template": "chatml"},
    },
    "runs": {
        "seen": {
            "dataset": "pages",
            "model": "mine",
            "task": "vision",
            "prompt_sets": {"style.2": {"file": "style.jsonl"}},
        },
        "finder": {"dataset": "letters", "model": "small", "task": "token_classification", "method": "head"},
        "cleaned": {"dataset": "clean", "model": "small"},
    },
    "gates": {
        "all": {"metric": "perplexity", "comparison": "below", "threshold": 9, "runs": ["seen", "cleaned"]},
        "one": {"metric": "distinct_2", "comparison": "above", "threshold": 0.1, "runs": ["cleaned"]},
    },
}


def sections(run: str) -> dict:
    """Return the sections of a run."""
    return sections_of(load_config(RAW), run)


def test_the_files_and_folders_that_a_run_names_are_found():
    assert read_paths(sections("seen")) == {
        "run.prompt_sets.style.2.file": "style.jsonl",
        "dataset.images": "pictures",
        "model.path": "models/mine",
        "model.chat_template": "mine.jinja",
    }
    assert read_paths(sections("cleaned")) == {}


def test_the_sections_have_the_gates_of_the_run_and_the_run_that_redacts():
    found = sections("cleaned")
    assert (list(sections("seen")["gates"]), list(found["gates"])) == (["all"], ["all", "one"])
    assert found["gates"]["one"]["threshold"] == 0.1
    assert (found["redaction"]["run_key"], found["redaction"]["model_key"]) == ("finder", "small")
    assert "redaction" not in sections("seen")


@pytest.mark.parametrize("change", ["content", "name", "more", "less"])
def test_a_change_in_a_folder_of_images_changes_its_hash(tmp_path, change):
    folder = tmp_path / "pictures"
    for name in ("a/one.png", "two.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    before = read_facts("dataset.images", folder)
    assert (before["files"], before["bytes"]) == (2, 16)
    assert read_facts("dataset.images", folder) == before
    one = folder / "a" / "one.png"
    if change == "content":
        one.write_bytes(b"a/ONE.png")
    elif change == "name":
        one.rename(folder / "a" / "three.png")
    elif change == "more":
        (folder / "three.png").write_bytes(b"")
    else:
        one.unlink()
    assert read_facts("dataset.images", folder)["sha256"] != before["sha256"]


def test_of_a_local_model_the_files_that_are_taken_count_and_no_weights(tmp_path):
    for name in ("config.json", "model.safetensors", "code.py", "notes.bin"):
        (tmp_path / name).write_text(name)
    before = read_facts("model.path", tmp_path)
    assert (before["files"], read_facts("model.path", tmp_path, with_code=True)["files"]) == (1, 2)
    (tmp_path / "model.safetensors").write_text("other")
    assert read_facts("model.path", tmp_path) == before
    (tmp_path / "config.json").write_text("other")
    assert read_facts("model.path", tmp_path)["sha256"] != before["sha256"]
