"""Each rule fails once, and again with the same command; mended, the workflow ends as an undisturbed one.

All of it happens without a network, in a project with no results yet. The rules of one round do not depend on each
other. Each round mends those of the one before, so that all rounds together make each result once.
"""

import re
from contextlib import ExitStack

import pytest

from scripts.deploy.verify_bundle import verify_bundle
from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE
from tests.support.offline import OfflineProject
from tests.support.project import Project
from tests.support.same_results import contents

ROUNDS = [
    ("dataset/ingest_records", "gguf/fetch_converter", "model/build_embedded_model"),
    ("dataset/split_records",),
    ("dataset/write_dataset_ledger", "train/tokenize_conversations", "predict/predict_with_transformers"),
    ("train/train_model", "score/score_answers"),
    ("train/plot_curve", "train/merge_adapter"),
    ("gguf/convert_to_gguf",),
    ("gguf/check_parity", "predict/predict_with_llama"),
    ("score/decide_verdict",),
    ("score/write_run_report", "score/write_leaderboard", "deploy/build_bundle"),
]
RULES = {"train_model": "train_adapter"}
# What records the code's folder, to which the witness adds a file.
DIFFERENT = ("results/runs/cards/bundle/provenance.json",)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> OfflineProject:
    """A project without results that keeps off the network, to break."""
    return OfflineProject.made_in(tmp_path_factory.mktemp("broken"))


def with_a_fault(text: str) -> str:
    """Return the text of a script that ends with an error at once when it is run, and that runs."""
    version = text.replace("RESULT_VERSION = ", "RESULT_VERSION = 9")
    # In one write: SystemExit writes its text and the line's end apart, and other jobs' lines come between.
    return 'import os\n\nif __name__ == "__main__":\n    os.write(2, b"broken\\n")\n    os._exit(1)\n' + version


def broken(project: Project, scripts: tuple[str, ...]):
    """Return a context in which these scripts end with an error; then they are as before, time of change included."""
    with ExitStack() as stack:
        for script in scripts:
            stack.enter_context(project.edited(f"scripts/{script}.py", with_a_fault))
        return stack.pop_all()


def failed_rules(output: str) -> set[str]:
    """Return the rules that Snakemake names as failed."""
    return set(re.findall(r"^(\w+)(?: .*)? failed(?:: .*)?$", output, re.MULTILINE))


def test_the_rounds_break_every_rule_of_the_project(project):
    scripts = [script.partition("/")[2] for scripts in ROUNDS for script in scripts]
    assert {RULES.get(script, script) for script in scripts} == set(project.planned("--forceall"))


def test_every_rule_that_fails_fails_again_and_once_mended_all_results_are_as_undisturbed_without_a_network(
    project, finished, converter_archive
):
    archive = {ARCHIVE_VARIABLE: str(converter_archive)}
    for scripts in ROUNDS:
        rules = {RULES.get(name, name) for name in (script.partition("/")[2] for script in scripts)}
        with broken(project, scripts):
            for _ in range(2):
                # All that does not depend on what failed goes on, so that each of the rules has its turn.
                done = project.run("--keep-going", **archive)
                assert (done.returncode, failed_rules(done.stdout)) == (1, rules), done.stdout
    done = project.run(**archive)
    assert done.returncode == 0, done.stdout
    assert project.reached() == ""
    found, expected = contents(project.folder), contents(finished.folder)
    assert found.keys() == expected.keys()
    assert [name for name, content in found.items() if content != expected[name] and name not in DIFFERENT] == []
    assert (project.folder / "results/leaderboard.html").exists()
    assert verify_bundle(project.folder / "results/runs/cards/bundle", [], project.folder).faults == []
    with project.edited("config/config.yaml", lambda text: text.replace("offline: true", "offline: false")):
        assert not project.planned()
