"""The layer that a head over a frozen base reads: kept in one pass, chosen on the validation split, and merged."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from scripts.common.classifier_head import Head, load_head
from scripts.common.config.runs import Run
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_manifest
from scripts.common.memory.estimate import prediction_memory, training_memory
from scripts.common.memory.shapes import KNOWN
from scripts.common.threads import use_threads
from scripts.predict.span_model import SpanModel
from scripts.train.features import Rows, Standardized, feature_statistics, fold_statistics
from scripts.train.head_run import HeadRun
from scripts.train.merge_head import merge_head
from scripts.train.tokenize_spans import tokenize_dataset
from scripts.train.train_head import live_features, train_head
from tests.support.span_data import head_settings, make_span_dataset
from tests.support.tiny_model import make_tiny_model

LAYERS, TRIED = 6, [2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The manifest of a small Llama of six layers."""
    folder = make_tiny_model(tmp_path_factory.mktemp("base") / "deep", "llama", layers=LAYERS)
    facts = {"name": "deep", "source": "embedded", "id": None, "revision": None, "architecture": "llama"}
    return write_manifest(folder, **facts, license=None, parameters=1)


@pytest.fixture(scope="module")
def tokens(base, tmp_path_factory):
    use_threads(2)
    folder = tmp_path_factory.mktemp("tokens")
    tokenize_dataset(
        make_span_dataset(folder / "dataset", train=12), base, folder / "tokens", head_settings()["tokens"]
    )
    return folder / "tokens"


def run_of(tokens, base, folder, layer, **sections) -> HeadRun:
    settings = head_settings(head={"layer": layer, **sections.pop("head", {})}, **sections)
    return HeadRun(tokens, base, folder / "checkpoints", folder / "head", settings, 2)


@pytest.fixture(scope="module")
def chosen(tokens, base, tmp_path_factory):
    """The folder and the facts of a head with `layer: auto`."""
    folder = tmp_path_factory.mktemp("auto")
    _, facts = train_head(run_of(tokens, base, folder, "auto"))
    return folder, facts


def test_one_pass_gives_each_layers_states_as_a_model_that_ends_there(tokens, base, tmp_path):
    rows = Rows(tokens / "train.arrow")
    several = live_features({"train": rows}, run_of(tokens, base, tmp_path, "auto"))["train"]
    states = several.forward([3])[0]
    assert states.shape[0] == len(TRIED)
    for place, layer in enumerate(TRIED):
        alone = live_features({"train": rows}, run_of(tokens, base, tmp_path, layer))["train"]
        assert len(alone.backbone.layers) == layer
        assert torch.equal(alone.forward([3])[0][0], states[place])


def test_a_head_is_trained_on_standardized_features_and_then_takes_them_as_they_are():
    class OneRow:
        labels = [torch.zeros(50)]  # noqa: RUF012
        tokens = 50

        def __len__(self):
            return 1

        def by_length(self, numbers):
            return list(numbers)

    generator = torch.Generator().manual_seed(0)
    states = torch.randn(50, 8, generator=generator) * torch.logspace(-3, 3, 8) + torch.arange(8)
    states[:, 5] = 4.0  # a feature that never changes
    statistics = feature_statistics(lambda _: states, OneRow())
    standardized = Standardized(lambda _: states, statistics)([0])
    others = [0, 1, 2, 3, 4, 6, 7]
    assert torch.allclose(standardized.mean(0), torch.zeros(8), atol=1e-4)
    assert torch.allclose(standardized.std(0, correction=0)[others], torch.ones(7), atol=1e-3)
    head = Head(8, 3, seed=1)
    expected = head(standardized)
    fold_statistics(head, statistics)
    assert torch.allclose(head(states), expected, atol=1e-4)


def test_auto_keeps_the_layer_with_the_lowest_validation_loss_and_says_which(chosen):
    folder, facts = chosen
    losses = {int(layer): loss for layer, loss in facts["loss_by_layer"].items()}
    assert sorted(losses) == TRIED
    assert facts["layer"] == min(losses, key=losses.get)
    assert facts["best_eval_loss"] == losses[facts["layer"]]
    written = read_json(folder / "head" / "head_config.json")
    assert (written["layer"], written["base_layers"]) == (facts["layer"], LAYERS)


def test_the_chosen_layers_head_is_the_one_that_the_layers_number_trains(chosen, tokens, base, tmp_path):
    folder, facts = chosen
    _, alone = train_head(run_of(tokens, base, tmp_path, facts["layer"]))
    assert (tmp_path / "head/head.safetensors").read_bytes() == (folder / "head/head.safetensors").read_bytes()
    assert alone["loss_by_layer"] == {str(facts["layer"]): alone["best_eval_loss"]}


def test_a_choice_that_was_cut_off_ends_as_one_that_was_not(chosen, tokens, base, tmp_path):
    folder, facts = chosen
    run = run_of(tokens, base, tmp_path, "auto", training={"max_steps": 3})
    train_head(run)  # other circumstances: what it leaves must not be taken up
    _, again = train_head(run_of(tokens, base, tmp_path, "auto"))
    _, resumed = train_head(run_of(tokens, base, tmp_path, "auto"))
    for other in (again, resumed):
        assert other["loss_by_layer"] == facts["loss_by_layer"]
    assert (tmp_path / "head/head.safetensors").read_bytes() == (folder / "head/head.safetensors").read_bytes()


@pytest.mark.parametrize("layer", [3, "last"])
def test_the_merged_model_ends_at_the_layer_and_gives_the_same_answers(tokens, base, tmp_path, layer):
    run = run_of(tokens, base, tmp_path, layer)
    train_head(run)
    merge_head(tmp_path / "head/manifest.json", base, tmp_path / "merged")
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    layers = LAYERS if layer == "last" else layer
    assert len(model.model.layers) == model.config.num_hidden_layers == layers
    rows = Rows(tokens / "train.arrow")
    live = live_features({"train": rows}, run)["train"]
    expected = load_head(tmp_path / "head/head.safetensors")(live([0]))
    with torch.inference_mode():
        found = model(input_ids=torch.tensor([rows.ids[0]])).logits[0, rows.positions[0]]
    assert torch.allclose(found, expected, atol=1e-5)
    names = {name for path in (tmp_path / "merged").glob("*.safetensors") for name in load_file(path)}
    assert any(name.startswith("model.layers.5.") for name in names) == (layer == "last")
    spans = SpanModel(tmp_path / "merged/manifest.json", "fp32", 64, 8, 4)
    assert len(spans.backbone.layers) == layers
    spans.entities(["Anna lives in Oslo."])


@pytest.mark.parametrize(
    ("layer", "head", "message"),
    [
        (7, {}, "head.layer is 7, but the base has 6 layers"),
        (
            "auto",
            {"max_cache_gb": 1e-9},
            "keeps the hidden states of 5 layers: .* set head.layer to a number, such as 4",
        ),
    ],
)
def test_a_layer_that_can_not_be_read_is_one_line(tokens, base, tmp_path, layer, head, message):
    with pytest.raises(UserError, match=message):
        train_head(run_of(tokens, base, tmp_path, layer, head=head))


@pytest.mark.parametrize(
    ("method", "head", "message"),
    [
        ("lora", {"layer": 3}, "has no effect with method 'lora'"),
        ("head", {"layer": "auto", "cache": "never"}, "'auto' trains on kept hidden states"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(method, head, message):
    run = Run.model_validate(
        {"dataset": "d", "model": "m", "task": "token_classification", "method": method, "head": head}
    )
    assert any(key == "head.layer" and message in text for key, text in run.conflicts())


def test_a_head_on_an_earlier_layer_is_estimated_to_want_less_memory():
    shape = KNOWN["mistralai/Mistral-7B-v0.3"]
    half, whole = (
        Run.model_validate(
            {"dataset": "d", "model": "m", "task": "token_classification", "method": "head", "head": {"layer": layer}}
        )
        for layer in (16, "last")
    )
    for estimate in (training_memory, prediction_memory):
        assert estimate(shape, half).total < 0.65 * estimate(shape, whole).total
    assert json.loads(half.model_dump_json())["head"]["layer"] == 16
