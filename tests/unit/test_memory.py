"""GPU memory: what the estimate says of models and settings, and the files of config/gpu that follow from it."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.base_model import has_room
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
METHODS = st.sampled_from(["lora", "qlora"])


def run(method: str = "lora", task: str = "chat", **sections) -> Run:
    return Run.model_validate({"dataset": "d", "model": "m", "method": method, "task": task, **sections})


def gib_of(shape, asked: Run) -> float:
    """Return the larger of what training and prediction take."""
    return max(training_memory(shape, asked).gib, prediction_memory(shape, asked).gib)


def test_known_shapes_have_the_published_parameters():
    billions = {
        "mistralai/Mistral-7B-v0.3": 7.248, "meta-llama/Llama-3.1-8B-Instruct": 8.030,
        "microsoft/Phi-3-mini-4k-instruct": 3.821, "mistralai/Mistral-Small-3.1-24B-Instruct-2503": 24.011,
    }  # fmt: skip
    assert {model: round(KNOWN[model].parameters / 1e9, 3) for model in billions} == billions


def test_shares_of_the_weights_take_less_in_each_process_and_copies_do_not():
    def weights(method: str, **training) -> float:
        found = training_memory(MISTRAL, run(method, training={"micro_batch": 1, "accumulation": 8, **training}))
        return found.weights + found.trained

    for method in ("lora", "full"):
        one, copies = weights(method), weights(method, processes=4)
        shares = [weights(method, processes=count, sharding="fsdp") for count in (2, 4, 8)]
        assert copies == one > shares[0] > shares[1] > shares[2] > one / 8


def test_weights_leave_a_tenth_of_the_gpu_for_the_work():
    found = {(size, free): has_room(size, free) for size, free in ((13, 16), (15, 16), (9, 10), (10, 10))}
    assert found == {(13, 16): True, (15, 16): False, (9, 10): True, (10, 10): False}


@given(
    st.sampled_from(sorted(KNOWN)), METHODS, st.integers(1, 8), st.integers(1, 8), st.sampled_from([256, 2048]),
    st.floats(4, 100),
)  # fmt: skip
def test_fitting_settings_fit_and_keep_the_batch(model, method, micro_batch, accumulation, length, gib):
    training = {"micro_batch": micro_batch, "accumulation": accumulation}
    asked = run(method, training=training, tokens={"max_length": length})
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
    settings = fitting_settings(MISTRAL, run(), 1000)
    assert settings["training"] == {"micro_batch": 16, "accumulation": 1, "gradient_checkpointing": False}
    assert "method" not in settings
    assert fitting_settings(KNOWN["mistralai/Mistral-Small-3.1-24B-Instruct-2503"], run("full"), 80) is None


def test_the_files_for_gpus_are_those_that_are_computed():
    assert {path: path.read_text(encoding="utf-8") for path in FILES} == all_files(), "run `make docs`"
    assert {path.stem for path in FILES} == set(recipes())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recipe_with_settings_for_a_gpu_is_valid_and_fits_it(path):
    recipe = yaml.safe_load((RECIPES / path.name).read_text(encoding="utf-8"))
    config = load_config(merged(recipe, yaml.safe_load(path.read_text(encoding="utf-8"))))
    [gpu] = [gpu for gpu in GPUS if gpu.name == path.parent.name]
    for each in config.runs.values():
        shape = KNOWN[config.models[each.model].hub.id]
        assert prediction_memory(shape, each).gib <= gpu.gib
        assert each.method == "prompt" or training_memory(shape, each).gib <= gpu.gib


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
