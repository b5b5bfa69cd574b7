"""The layer that a head over a frozen base reads: kept in one pass, chosen on the validation split, and merged."""

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from scripts.common.errors import UserError
from scripts.common.files import read_json, write_manifest
from scripts.config.runs import Run
from scripts.predict.span_model import SpanModel
from scripts.train.classifier_head import load_head
from scripts.train.features import Rows
from scripts.train.head_training import live_features
from scripts.train.merge_head import merge_head
from scripts.train.trainer import SpanTrainer
from scripts.workflow.memory.estimate import prediction_memory, training_memory
from scripts.workflow.memory.shapes import KNOWN
from tests.support.span_data import answer_settings, head_settings
from tests.support.tiny_model import make_tiny_model
from tests.support.training import make_data, run_in, train_in

LAYERS, TRIED = 6, [2, 3, 4, 5, 6]
HEAD = "adapter/head.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The manifest of a small Llama of six layers."""
    folder = make_tiny_model(tmp_path_factory.mktemp("base") / "deep", "llama", layers=LAYERS)
    facts = {"name": "deep", "source": "embedded", "id": None, "revision": None, "architecture": "llama"}
    return write_manifest(folder, **facts, license=None, parameters=1)


@pytest.fixture(scope="module")
def data(base, tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"), base, head_settings(), train=12)


def settings_of(layer, head=(), **sections) -> dict:
    return head_settings(head={"layer": layer, **dict(head)}, **sections)


@pytest.fixture(scope="module")
def train(data, base):
    """A function that trains a head that reads a layer; returns the facts."""
    return lambda layer, folder, **sections: train_in(data, base, folder, settings_of(layer, **sections))[1]


@pytest.fixture(scope="module")
def chosen(train, tmp_path_factory):
    """The folder and the facts of a head with `layer: auto`."""
    folder = tmp_path_factory.mktemp("auto")
    return folder, train("auto", folder)


def test_auto_keeps_the_layer_with_the_lowest_validation_loss_as_its_number_trains_it(chosen, train, tmp_path):
    folder, facts = chosen
    losses = {int(layer): loss for layer, loss in facts["loss_by_layer"].items()}
    assert sorted(losses) == TRIED
    assert facts["layer"] == min(losses, key=losses.get)
    assert facts["best_eval_loss"] == losses[facts["layer"]]
    assert read_json(folder / "adapter/head_config.json")["layer"] == facts["layer"]
    alone = train(facts["layer"], tmp_path)
    assert (tmp_path / HEAD).read_bytes() == (folder / HEAD).read_bytes()
    assert alone["loss_by_layer"] == {str(facts["layer"]): facts["best_eval_loss"]}


def test_a_layer_whose_training_diverged_is_not_chosen(train, tmp_path, monkeypatch):
    lowest = iter([0.1, math.inf])  # of the first layer; those of the others are real

    def evaluation(trainer):
        return real(trainer) | {"eval_loss": found} if (found := next(lowest, None)) else real(trainer)

    real = SpanTrainer.evaluation
    monkeypatch.setattr(SpanTrainer, "evaluation", evaluation)
    facts = train("auto", tmp_path)
    assert facts["loss_by_layer"][str(TRIED[0])] == 0.1
    assert (facts["layer"] > TRIED[0], facts["diverged"]) == (True, None)


def test_a_choice_that_was_cut_off_ends_as_one_that_was_not(chosen, train, tmp_path):
    folder, facts = chosen
    train("auto", tmp_path, training={"max_steps": 3})  # other settings: what it leaves must not be used
    for _ in range(2):
        assert train("auto", tmp_path)["loss_by_layer"] == facts["loss_by_layer"]
    assert (tmp_path / HEAD).read_bytes() == (folder / HEAD).read_bytes()


def test_the_merged_model_ends_at_the_layer_and_gives_the_same_answers(data, base, train, tmp_path):
    train(3, tmp_path)
    merge_head(tmp_path / "adapter/manifest.json", base, tmp_path / "merged")
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    assert len(model.model.layers) == model.config.num_hidden_layers == 3
    rows = Rows(data / "tokens/train.arrow")
    features = live_features({"train": rows}, run_in(data, base, data, settings_of(3)))["train"]
    with torch.inference_mode():
        found = model(input_ids=torch.tensor([rows.ids[0]])).logits[0, rows.positions[0]]
    assert torch.allclose(found, load_head(tmp_path / HEAD)(features([0])), atol=1e-5)
    names = {name for path in (tmp_path / "merged").glob("*.safetensors") for name in load_file(path)}
    assert not any(name.startswith("model.layers.5.") for name in names)
    assert len(SpanModel(tmp_path / "merged/manifest.json", answer_settings(64, 8)).backbone.layers) == 3


def test_a_layer_that_can_not_be_read_is_one_line(train, tmp_path):
    with pytest.raises(UserError, match=r"head.layer is 7, but the base has 6 layers"):
        train(7, tmp_path)
    with pytest.raises(UserError, match=r"keeps the hidden states of 5 layers: .* set head.layer to a number, such as"):
        train("auto", tmp_path, head={"max_cache_gb": 1e-9})


@pytest.mark.parametrize("estimate", [training_memory, prediction_memory])
def test_a_head_on_an_earlier_layer_is_estimated_to_want_less_memory(estimate):
    runs = [Run.model_validate(settings_of(layer)) for layer in (16, "last")]
    half, whole = (estimate(KNOWN["mistralai/Mistral-7B-v0.3"], run).total for run in runs)
    assert half < 0.65 * whole
