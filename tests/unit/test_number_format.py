"""The number format: bf16 where the processor has fast units for it, else fp32, the same in every step and bundle."""

import importlib.util
import itertools
import re
from pathlib import Path

import pytest
import torch

from scripts.common import number_format
from scripts.common.number_format import device_precision, precision_of_answers, precision_of_run
from scripts.deploy import build_bundle
from tests.support.cpu import CPUS, GENOA, MILAN
from tests.support.data import load

TABLE = load("number_format.yaml")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU decides otherwise")


@pytest.mark.parametrize(("name", "isa", "expected"), TABLE["flags"])
def test_flags_and_the_limit_of_onednn_decide(cpu, name, isa, expected):
    cpu(CPUS[name], isa)
    assert device_precision("auto") == expected


@pytest.mark.parametrize("program", ["example_transformers", "example_transformers_image", "example_classify"])
def test_a_bundles_examples_compute_in_the_format_of_the_steps(cpu, program, monkeypatch):
    path = Path(build_bundle.__file__).parent / f"examples/{program}.py"
    module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location(program, path))
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "Path", lambda _: number_format.CPUINFO)
    limits = [None, "AVX2", "AVX512_CORE", "AVX512_CORE_BF16"]
    for text, isa in itertools.product(CPUS.values(), limits):
        cpu(text, isa)
        assert module.number_format("cpu") == number_format.torch_dtype(device_precision("auto")), (text, isa)


def test_a_format_that_is_emulated_is_used_with_a_warning_that_says_what_it_costs(cpu, caplog):
    cpu(MILAN)
    assert device_precision("bf16") == "bf16"
    [warning] = caplog.messages
    assert re.match("bf16 is slow on this machine.*times as long.*'auto' takes fp32", warning)
    caplog.clear()
    cpu(GENOA)
    number_format.warn_if_slow.cache_clear()
    assert [device_precision(wanted) for wanted in ("bf16", "fp32")] == ["bf16", "fp32"]
    assert not caplog.records


@pytest.mark.parametrize(("name", "wanted", "begun", "expected"), TABLE["begun"])
def test_a_training_keeps_the_format_in_which_it_was_begun(cpu, name, wanted, begun, expected):
    cpu(CPUS[name])
    assert precision_of_run(wanted, begun) == expected


@pytest.mark.parametrize(("name", "wanted", "trained", "expected"), TABLE["trained"])
def test_a_head_reads_its_base_in_the_format_of_its_training(cpu, name, wanted, trained, expected):
    cpu(CPUS[name])
    assert precision_of_answers(wanted, trained) == expected
