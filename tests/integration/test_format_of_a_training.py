"""A training keeps the number format in which it was begun, on whatever CPU it is continued."""

import pytest
import torch

from scripts.common.errors import UserError
from scripts.train.tokenize_conversations import tokenize_dataset
from scripts.train.tokenize_spans import tokenize_dataset as tokenize_spans
from tests.support.cpu import GENOA, MILAN
from tests.support.span_data import head_settings, make_span_dataset
from tests.support.training import make_dataset, run_settings, train_in

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU decides otherwise")


@pytest.mark.parametrize(("task", "method"), [("chat", "lora"), ("spans", "head"), ("spans", "lora")])
def test_a_training_moved_to_another_cpu_keeps_its_format_or_is_refused(cpu, task, method, tiny_base, tmp_path):
    training = {"checkpoint_steps": 1, "epochs": 1}
    make_settings, make, tokenize = {
        "chat": (run_settings, make_dataset, tokenize_dataset),
        "spans": (head_settings, make_span_dataset, tokenize_spans),
    }[task]
    settings, by_name = (
        make_settings(method, training=training | further) for further in ({"precision": "auto"}, {"precision": "bf16"})
    )
    tokenize(make(tmp_path / "dataset"), tiny_base, tmp_path / "tokens", settings["tokens"])
    cpu(GENOA)
    _, begun = train_in(tmp_path, tiny_base, tmp_path / "begun in bf16", settings)
    assert begun["precision"] == "bf16"
    cpu(MILAN)
    with pytest.raises(UserError, match=r"begun in bf16, which this machine does not compute natively; continue where"):
        train_in(tmp_path, tiny_base, tmp_path / "begun in bf16", settings)
    _, resumed = train_in(tmp_path, tiny_base, tmp_path / "begun in bf16", by_name)
    assert resumed["fingerprint"] == begun["fingerprint"]
    _, single = train_in(tmp_path, tiny_base, tmp_path / "begun in fp32", settings)
    cpu(GENOA)
    _, kept = train_in(tmp_path, tiny_base, tmp_path / "begun in fp32", settings)
    assert (kept["precision"], kept["fingerprint"]) == ("fp32", single["fingerprint"])
