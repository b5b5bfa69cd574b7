"""Stages stand apart: an edit of one re-runs no step of another, as a step re-runs when a module of its own changes."""

import ast
from pathlib import Path

import pytest

from scripts.common.imports import files_of_script

SCRIPTS = Path(__file__).parents[2] / "scripts"
STAGES = ("dataset", "model", "train", "gguf", "predict", "score", "deploy")
# What a stage takes from another one all the same, and why.
EXCEPTIONS = {
    # The configuration says which chat templates there are.
    ("common/config/paths.py", "model/chat_templates.py"),
    # The shipped GGUF has to answer what the run's model was asked, in the very words of the run's strategy.
    ("gguf/check_parity.py", "predict/arguments.py"),
    ("gguf/check_parity.py", "predict/prompts.py"),
    ("gguf/check_parity.py", "predict/strategies.py"),
    ("deploy/served_strategy.py", "predict/strategies.py"),
    # A bundle names the GGUF as the conversion did, the converter that made it, and scores as the reports show them.
    ("deploy/build_bundle.py", "gguf/naming.py"),
    ("deploy/provenance.py", "gguf/fetch_converter.py"),
    ("deploy/model_card.py", "score/catalogue.py"),
    ("deploy/model_card.py", "score/columns.py"),
    # A bundle records those files of a local model that its stage takes, and a chat template of one's own.
    ("deploy/read_files.py", "model/chat_templates.py"),
    ("deploy/read_files.py", "model/model_files.py"),
}


def taken_from_other_stages() -> set[tuple[str, str]]:
    """Return each import from a stage by another one, or by `common`: the importing file and the imported one."""
    found = set()
    for path in SCRIPTS.rglob("*.py"):
        importer = path.relative_to(SCRIPTS)
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{importer} imports relatively, which no rule sees"
                names = [node.module, *(f"{node.module}.{name}" for name in names)]
            for name in names:
                imported = Path(*name.split(".")).with_suffix(".py")
                if not (SCRIPTS.parent / imported).is_file() or imported.parts[0] != "scripts":
                    continue
                if imported.parts[1] in STAGES and imported.parts[1] != importer.parts[0]:
                    found.add((importer.as_posix(), imported.relative_to("scripts").as_posix()))
    return found


def modules_of(script: str) -> list[str]:
    """Return what a step consists of, as its rule lists it, relative to `scripts/`."""
    return [path.relative_to(SCRIPTS).as_posix() for path in files_of_script(SCRIPTS / script)]


def test_every_stage_is_looked_at():
    folders = {path.parent.name for path in SCRIPTS.glob("*/*.py")}
    assert folders == {*STAGES, "common"}


def test_stages_import_only_themselves_and_what_is_common():
    assert taken_from_other_stages() == EXCEPTIONS


@pytest.mark.parametrize("script", sorted(path.name for path in (SCRIPTS / "predict").glob("*.py")))
def test_prediction_does_not_run_again_for_an_edit_of_ingestion_or_training(script):
    modules = modules_of(f"predict/{script}")
    assert not [module for module in modules if module.startswith(("dataset/", "train/"))]


def test_the_training_of_a_head_does_not_run_again_for_an_edit_of_the_training_with_images():
    modules = modules_of("train/train_head.py")
    assert "train/train_span_lora.py" in modules
    assert not [module for module in modules if module.startswith(("train/vision_", "train/train_model"))]
    assert {"train/vision_trainer.py", "train/vision_training.py"} <= set(modules_of("train/train_model.py"))
