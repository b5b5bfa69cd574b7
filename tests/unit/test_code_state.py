"""Which code made a bundle: files and, where git knows them, the commit and whether they differ from it."""

import subprocess

from scripts.common.files import sha256_of
from scripts.deploy.code_state import code_state
from tests.support.needs import need


def git(folder, *words):
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_a_folder_without_git_has_files_and_no_commit(tmp_path):
    (tmp_path / "Snakefile").write_text("rule all:\n")
    state = code_state(tmp_path)
    assert (state["commit"], state["dirty"]) == (None, None)
    assert state["files"] == {"Snakefile": sha256_of(tmp_path / "Snakefile")}


def test_a_commit_is_clean_until_code_changes(tmp_path):
    need("git", "git of the distribution")
    (tmp_path / "rules").mkdir()
    for name in ("Snakefile", "rules/score.smk", "notes.txt"):
        (tmp_path / name).write_text("one\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    clean = code_state(tmp_path)
    assert len(clean["commit"]) == 40
    (tmp_path / "notes.txt").write_text("two\n")
    assert code_state(tmp_path)["dirty"] is clean["dirty"] is False
    (tmp_path / "rules" / "score.smk").write_text("two\n")
    changed = code_state(tmp_path)
    assert (changed["dirty"], changed["commit"]) == (True, clean["commit"])
    assert changed["sha256"] != clean["sha256"]


def test_a_copy_inside_of_another_project_has_no_commit_of_its_own(tmp_path):
    need("git", "git of the distribution")
    (tmp_path / "other.txt").write_text("one\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    copy = tmp_path / "snaketune"
    copy.mkdir()
    (copy / "Snakefile").write_text("rule all:\n")
    assert code_state(copy)["commit"] is None
