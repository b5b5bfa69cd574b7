"""A folder of scripts/ imports from common, tasks and earlier stages, and what is named here."""

import re
from pathlib import Path

import pytest

from scripts.tasks import TASKS
from scripts.workflow.code_digest import files_of_script, known

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("collect", "dataset", "model", "train", "gguf", "predict", "score", "deploy", "review")
# What else may be imported, by the importing module (or its folder) and the imported one.
EXCEPTIONS = {
    # What the configuration checks settings against.
    ("config", "score/metrics"), ("config", "score/columns"), ("config", "model/chat_templates"),
    ("config", "deploy/modelfile_text"), ("config", "deploy/target"), ("config", "dataset/layouts"),
    # All that knows of GGUF files is in scripts/gguf: a base model may be one.
    ("model/dequantize_gguf", "gguf"), ("model/fetch_gguf_package", "gguf"),
    # Parity is judged on the prompts that will be asked.
    ("gguf/check_parity", "predict"),
    # The monitor of production is one file, which bundles ship.
    ("score/write_leaderboard", "deploy/quality_monitor"),
    # The description of a site, by which its pages are read.
    ("collect", "config/sites"), ("collect/site_settings", "config"),
    # The stand-in's sizes, and the programs that a person calls with a configuration.
    ("model", "config/models"), ("score/print_summary", "config"), ("deploy/verify_bundle", "config"),
}  # fmt: skip


def imports() -> list[tuple[str, str]]:
    """Return the imports between folders of scripts/, as pairs of modules such as `score/measure`."""
    pairs = []
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        name = path.relative_to(ROOT / "scripts").with_suffix("").as_posix()
        for file in known(path, ROOT)["imports"]:
            imported = Path(file).relative_to("scripts").with_suffix("").as_posix()
            if folder(imported) != folder(name):
                pairs.append((name, imported))
    return pairs


def folder(name: str) -> str:
    """Return the folder of a module."""
    return name.split("/")[0]


def is_allowed(name: str, imported: str) -> bool:
    """Say whether a module of another folder may be imported."""
    own, other = folder(name), folder(imported)
    if own == "workflow" or (other == "common" and own != "plugins"):
        return True
    if other == "tasks" and own in ("config", *STAGES):
        return True
    if own in STAGES and other in STAGES and STAGES.index(other) < STAGES.index(own):
        return True
    return any((one, two) in EXCEPTIONS for one in (name, own) for two in (imported, other))


def test_imports_lead_to_common_and_to_earlier_stages():
    pairs = imports()
    assert pairs
    assert [pair for pair in pairs if not is_allowed(*pair)] == []


def test_every_exception_is_needed():
    found = [((name, folder(name)), (imported, folder(imported))) for name, imported in imports()]
    assert [pair for pair in EXCEPTIONS if not any(pair[0] in one and pair[1] in two for one, two in found)] == []


def test_only_tasks_know_the_names_of_tasks():
    compared = re.compile(rf"""[=!]= ["']({"|".join(TASKS)})["']""")
    files = [*(ROOT / "scripts").rglob("*.py"), *(ROOT / "rules").glob("*.smk")]
    assert [path.name for path in files if path.parent.name != "tasks" and compared.search(path.read_text())] == []


# What the dataset and train stages write, later ones read by the same modules.
SHARED = {
    "dataset/canonical.py", "dataset/entities.py", "train/classifier_head.py", "train/padding.py",
    "train/span_alignment.py",
}  # fmt: skip


@pytest.mark.parametrize(
    ("scripts", "never"),
    [
        ("predict/*.py", ("dataset/", "train/")),
        ("train/train_head.py", ("train/vision_", "train/train_model")),
        ("score/write_run_report.py", ("dataset/ingest", "dataset/make_record")),
        ("dataset/write_dataset_ledger.py", ("dataset/ingest", "dataset/make_record")),
    ],
)
def test_an_edit_of_one_stage_runs_no_step_of_another_again_as_a_module_of_the_step_itself(scripts, never):
    folder = ROOT / "scripts"
    assert all(any(folder.glob(f"{prefix}*")) for prefix in never)
    for script in folder.glob(scripts):
        modules = {path.relative_to(folder).as_posix() for path in files_of_script(script)} - SHARED
        assert modules
        assert not [module for module in modules if module.startswith(never)], script
