"""An adapter that another version of peft wrote loads here as what it is, or not at all."""

import dataclasses
import json
from importlib.metadata import version

import pytest
import torch
from peft import LoraConfig

from scripts.common.errors import UserError
from scripts.common.files import write_manifest
from scripts.predict.predict_with_transformers import load_variant
from scripts.train.adapter_config import KNOWN, read_adapter_config
from scripts.train.merge_adapter import merge_adapter
from tests.integration.test_merge import random_adapter
from tests.support.training import run_settings


@pytest.fixture(scope="module")
def adapter(tiny_base, tmp_path_factory):
    return random_adapter(tiny_base, tmp_path_factory.mktemp("adapter"), target_modules=["q_proj"])


def edited(adapter, folder, drop=(), **changes):
    """Return the manifest of a copy of the adapter with other keys in its configuration."""
    folder.mkdir()
    config = json.loads((adapter.parent / "adapter_config.json").read_text())
    kept = {key: value for key, value in config.items() if key not in drop}
    (folder / "adapter_config.json").write_text(json.dumps({**kept, **changes}))
    weights = "adapter_model.safetensors"
    (folder / weights).write_bytes((adapter.parent / weights).read_bytes())
    return write_manifest(folder, base="tiny", method="lora")


def logits(base, adapter):
    model = load_variant(base, adapter, run_settings(training={"precision": "fp32"}))
    with torch.no_grad():
        return model(torch.arange(30, 50)[None]).logits


def test_the_known_keys_are_those_of_the_installed_peft():
    assert {field.name for field in dataclasses.fields(LoraConfig)} == KNOWN


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", [], {}])
def test_an_unknown_key_that_is_off_is_left_out_with_its_options_and_said(adapter, tmp_path, caplog, value):
    options = {"rotation_blocks": 4} if value is False else {}
    other = edited(adapter, tmp_path / "a", peft_version="9.9.9", use_rotation=value, **options)
    assert not {"use_rotation", "rotation_blocks"} & read_adapter_config(other.parent).keys()
    said = f"use_rotation, unknown to peft {version('peft')} and switched off (written by peft 9.9.9)"
    assert said in caplog.text


@pytest.mark.parametrize(
    ("drop", "changes"),
    [
        ((), {"use_rotation": None}),
        # What an older peft does not write.
        (("use_dora", "use_rslora", "peft_version", "lora_bias", "target_parameters", "alora_invocation_tokens"), {}),
    ],
)
def test_an_adapter_of_another_peft_predicts_and_merges_as_it_did(tiny_base, adapter, tmp_path, drop, changes):
    adapters = {"one": adapter, "other": edited(adapter, tmp_path / "a", drop, **changes)}
    one, other = (logits(tiny_base, found) for found in adapters.values())
    assert torch.equal(one, other)
    for name, found in adapters.items():
        merge_adapter(found, tiny_base, tmp_path / name)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in adapters)
    assert one == other


UNKNOWN = r"adapter_config\.json: has what this peft does not know: {} \(written by peft 9\.9\.9, installed is"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"use_rotation": True}, UNKNOWN.format("use_rotation = True")),
        ({"use_rotation": 1, "rotation_blocks": 4}, UNKNOWN.format("rotation_blocks = 4, use_rotation = 1")),
        ({"alpha_pattern": {"q_proj": 1}}, "only plain LoRA adapters can be merged"),
        ({"layer_replication": [[0, 1]]}, "only plain LoRA adapters can be merged"),
        ({"use_qalora": True}, "only plain LoRA adapters can be merged"),
    ],
)
def test_a_key_that_changes_the_adapter_is_refused_if_it_is_unknown_or_merging_does_not_heed_it(
    tiny_base, adapter, tmp_path, changes, line
):
    other = edited(adapter, tmp_path / "a", peft_version="9.9.9", **changes)
    with pytest.raises(UserError, match=line):
        merge_adapter(other, tiny_base, tmp_path / "merged")
    if "use_rotation" in changes:
        with pytest.raises(UserError, match=line):
            logits(tiny_base, other)
