"""An adapter that another version of peft wrote loads here as what it is, or not at all."""

import dataclasses
import json
import logging
from importlib.metadata import version

import pytest
import torch
from peft import LoraConfig

from scripts.common.adapter_config import KNOWN, read_adapter_config
from scripts.common.errors import UserError
from scripts.common.files import write_manifest
from scripts.predict.predict_with_transformers import load_variant
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
def test_an_unknown_key_that_is_off_is_left_out_and_said(tiny_base, adapter, tmp_path, caplog, value):
    other = edited(adapter, tmp_path / "a", peft_version="9.9.9", use_rotation=value)
    with caplog.at_level(logging.WARNING):
        assert "use_rotation" not in read_adapter_config(other.parent)
    installed = version("peft")
    assert f"left out use_rotation, unknown to peft {installed} and switched off (written by peft 9.9.9)" in caplog.text


def test_an_option_of_a_switch_that_is_off_is_left_out(adapter, tmp_path):
    other = edited(adapter, tmp_path / "a", use_rotation=False, rotation_blocks=4)
    assert not {"use_rotation", "rotation_blocks"} & read_adapter_config(other.parent).keys()


def test_it_then_predicts_and_merges_as_it_did(tiny_base, adapter, tmp_path):
    other = edited(adapter, tmp_path / "a", use_rotation=None)
    assert torch.equal(logits(tiny_base, other), logits(tiny_base, adapter))
    for source, name in ((adapter, "one"), (other, "two")):
        merge_adapter(source, tiny_base, tmp_path / name)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    "changes", [{"use_rotation": True}, {"rotation_blocks": 4}, {"use_rotation": 1, "rotation_blocks": 4}]
)
def test_an_unknown_key_that_changes_the_adapter_is_refused_wherever_it_is_loaded(
    tiny_base, adapter, tmp_path, changes
):
    other = edited(adapter, tmp_path / "a", peft_version="9.9.9", **changes)
    named = ", ".join(f"{key} = {value!r}" for key, value in sorted(changes.items()))
    line = rf"adapter_config\.json: has what this peft does not know: {named} \(written by peft 9\.9\.9, installed is"
    with pytest.raises(UserError, match=line):
        logits(tiny_base, other)
    with pytest.raises(UserError, match=line):
        merge_adapter(other, tiny_base, tmp_path / "merged")


@pytest.mark.parametrize(
    "changes", [{"alpha_pattern": {"q_proj": 1}}, {"layer_replication": [[0, 1]]}, {"use_qalora": True}]
)
def test_a_known_key_that_merging_does_not_heed_is_refused(tiny_base, adapter, tmp_path, changes):
    other = edited(adapter, tmp_path / "a", **changes)
    with pytest.raises(UserError, match="only plain LoRA adapters can be merged"):
        merge_adapter(other, tiny_base, tmp_path / "merged")


def test_an_adapter_of_an_older_peft_lacks_keys_and_loads(tiny_base, adapter, tmp_path):
    newer = ("use_dora", "use_rslora", "peft_version", "lora_bias", "target_parameters", "alora_invocation_tokens")
    other = edited(adapter, tmp_path / "a", drop=newer)
    assert torch.equal(logits(tiny_base, other), logits(tiny_base, adapter))
    merge_adapter(other, tiny_base, tmp_path / "merged")
