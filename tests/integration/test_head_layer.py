"""The layer that a head over a frozen base reads: kept in one pass, chosen on the validation split, and merged."""

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
from scripts.train.merge_head import merge_head
from scripts.train.train_head import live_features
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


@pytest.fixture
def train(data, base):
    """A function that trains a head that reads a layer; returns the facts."""
    return lambda layer, folder, **sections: train_in(data, base, folder, settings_of(layer, **sections))[1]


def live(data, base, layer):
    """Return the rows of the training split, and the features that a head on a layer reads."""
    rows = Rows(data / "tokens/train.arrow")
    return rows, live_features({"train": rows}, run_in(data, base, data, settings_of(layer)))["train"]


@pytest.fixture(scope="module")
def chosen(data, base, tmp_path_factory):
    """The folder and the facts of a head with `layer: auto`."""
    folder = tmp_path_factory.mktemp("auto")
    return folder, train_in(data, base, folder, settings_of("auto"))[1]


def test_one_pass_gives_each_layers_states_as_a_model_that_ends_there(data, base):
    states = live(data, base, "auto")[1].forward([3])[0]
    assert states.shape[0] == len(TRIED)
    for place, layer in enumerate(TRIED):
        alone = live(data, base, layer)[1]
        assert len(alone.backbone.layers) == layer
        assert torch.equal(alone.forward([3])[0][0], states[place])


def test_auto_keeps_the_layer_with_the_lowest_validation_loss_as_its_number_trains_it(chosen, train, tmp_path):
    folder, facts = chosen
    losses = {int(layer): loss for layer, loss in facts["loss_by_layer"].items()}
    assert sorted(losses) == TRIED
    assert facts["layer"] == min(losses, key=losses.get)
    assert facts["best_eval_loss"] == losses[facts["layer"]]
    written = read_json(folder / "adapter/head_config.json")
    assert (written["layer"], written["base_layers"]) == (facts["layer"], LAYERS)
    alone = train(facts["layer"], tmp_path)
    assert (tmp_path / HEAD).read_bytes() == (folder / HEAD).read_bytes()
    assert alone["loss_by_layer"] == {str(facts["layer"]): alone["best_eval_loss"]}


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
    rows, features = live(data, base, 3)
    expected = load_head(tmp_path / HEAD)(features([0]))
    with torch.inference_mode():
        found = model(input_ids=torch.tensor([rows.ids[0]])).logits[0, rows.positions[0]]
    assert torch.allclose(found, expected, atol=1e-5)
    names = {name for path in (tmp_path / "merged").glob("*.safetensors") for name in load_file(path)}
    assert not any(name.startswith("model.layers.5.") for name in names)
    assert len(SpanModel(tmp_path / "merged/manifest.json", answer_settings(64, 8)).backbone.layers) == 3


@pytest.mark.parametrize(
    ("layer", "head", "message"),
    [
        (7, {}, "head.layer is 7, but the base has 6 layers"),
        ("auto", {"max_cache_gb": 1e-9}, "keeps the hidden states of 5 layers: .* set head.layer to a number, such as"),
    ],
)
def test_a_layer_that_can_not_be_read_is_one_line(train, tmp_path, layer, head, message):
    with pytest.raises(UserError, match=message):
        train(layer, tmp_path, head=head)


def run_of(method, **head) -> Run:
    section = {"dataset": "d", "model": "m", "task": "token_classification", "method": method, "head": head}
    return Run.model_validate(section)


def test_settings_that_do_not_go_together_are_refused():
    assert ("head.layer", "has no effect") in [(key, text[:13]) for key, text in run_of("lora", layer=3).conflicts()]
    refused = run_of("head", layer="auto", cache="never").conflicts()
    assert any(key == "head.layer" and "'auto' needs stored hidden states" in text for key, text in refused)


@pytest.mark.parametrize("estimate", [training_memory, prediction_memory])
def test_a_head_on_an_earlier_layer_is_estimated_to_want_less_memory(estimate):
    shape = KNOWN["mistralai/Mistral-7B-v0.3"]
    half, whole = (estimate(shape, run_of("head", layer=layer)).total for layer in (16, "last"))
    assert half < 0.65 * whole
