"""Settings for GPUs: they fit by the estimate, keep the batch, and stand in config/gpu as they are computed."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scripts.config.expand import merged
from scripts.config.load import load_config
from scripts.config.runs import Run
from scripts.workflow.memory.estimate import prediction_memory, training_memory
from scripts.workflow.memory.fit import GPUS, changed, fitting_settings
from scripts.workflow.memory.report import memory_lines
from scripts.workflow.memory.shapes import KNOWN
from scripts.workflow.memory.write_gpu_settings import FOLDER, RECIPES, all_files, recipes

FILES = sorted(FOLDER.glob("*/*.yaml"))
MISTRAL = KNOWN["mistralai/Mistral-7B-v0.3"]


def run(**settings) -> Run:
    return Run.model_validate({"dataset": "d", "model": "m", **settings})


def gib_of(shape, asked: Run) -> float:
    """Return the larger of what training and prediction take."""
    return max(training_memory(shape, asked).gib, prediction_memory(shape, asked).gib)


@given(
    st.sampled_from(sorted(KNOWN)), st.sampled_from(["lora", "qlora"]), st.integers(1, 8), st.integers(1, 8),
    st.sampled_from([256, 2048]), st.floats(4, 100),
)  # fmt: skip
def test_fitting_settings_fit_and_keep_the_batch(model, method, micro_batch, accumulation, length, gib):
    training = {"micro_batch": micro_batch, "accumulation": accumulation}
    asked = run(method=method, training=training, tokens={"max_length": length})
    settings = fitting_settings(KNOWN[model], asked, gib)
    if settings is None:
        # Not even the most sparing way fits: a row at a time, checkpointed, over 4 bits.
        sparing = {"method": "qlora", "training": {"micro_batch": 1, "gradient_checkpointing": True}}
        least = changed(asked, sparing | {"generation": {"batch_size": 1, "load_in_4bit": "yes"}})
        assert gib_of(KNOWN[model], least) > gib
        return
    fitted = changed(asked, settings)
    assert gib_of(KNOWN[model], fitted) <= gib
    assert fitted.training.micro_batch * fitted.training.accumulation == micro_batch * accumulation


def test_with_room_enough_nothing_is_spared_and_what_does_not_fit_has_no_settings():
    settings = fitting_settings(MISTRAL, run(method="lora"), 1000)
    assert settings["training"] == {"micro_batch": 16, "accumulation": 1, "gradient_checkpointing": False}
    assert "method" not in settings
    assert fitting_settings(KNOWN["mistralai/Mistral-Small-3.1-24B-Instruct-2503"], run(method="full"), 80) is None


def test_the_files_are_those_that_are_computed():
    computed = all_files()
    assert {path: path.read_text(encoding="utf-8") for path in FILES} == computed, "run `make docs`"
    assert {path.stem for path in FILES} == set(recipes())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recipe_with_settings_for_a_gpu_is_valid_and_fits_it(path):
    recipe = yaml.safe_load((RECIPES / path.name).read_text(encoding="utf-8"))
    config = load_config(merged(recipe, yaml.safe_load(path.read_text(encoding="utf-8"))))
    [gpu] = [gpu for gpu in GPUS if gpu.name == path.parent.name]
    for each in config.runs.values():
        shape = KNOWN[config.models[each.model].hub.id]
        assert prediction_memory(shape, each).gib <= gpu.gib
        if each.method != "prompt":
            assert training_memory(shape, each).gib <= gpu.gib


def test_a_dry_run_says_what_each_run_takes_and_of_which_it_knows_nothing():
    config = {
        "datasets": {"d": {"files": ["d.jsonl"], "format": "messages"}},
        "models": {
            "known": {"hub": {"id": "mistralai/Mistral-7B-v0.3", "revision": "0" * 40}}, "small": {"embedded": {}},
            "other": {"path": "folder"},
        },
        "runs": {name: {"dataset": "d", "model": name} for name in ("known", "small", "other")},
    }  # fmt: skip
    head, tuned, strange = memory_lines(load_config(config), lambda path: path)
    assert head.split() == ["GPU", "memory,", "estimated", "(GiB)", "training", "prediction", "fits"]
    assert tuned.split()[0] == "known"
    assert "GB" in tuned
    assert "the shape of 'other' is not known before its config.json is here" in strange
    config["runs"] = {"small": config["runs"]["small"]}
    assert list(memory_lines(load_config(config), lambda path: path)) == []
