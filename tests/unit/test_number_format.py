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
from tests.support.cpu import GENOA, MILAN

SAPPHIRE_RAPIDS = "vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 amx_bf16 avx512_fp16 amx_tile\n"
WITHOUT_AMX = "vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 avx512_fp16\n"
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU decides otherwise")


def test_flags_and_the_limit_of_onednn_decide(cpu):
    for text, isa, expected in (
        (MILAN, None, "fp32"), (GENOA, None, "bf16"), (SAPPHIRE_RAPIDS, None, "bf16"), (WITHOUT_AMX, None, "fp32"),
        ("", None, "fp32"), (GENOA, "AVX2", "fp32"), (GENOA, "avx512_core", "fp32"),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_VNNI", "fp32"), (GENOA, "AVX512_CORE_BF16", "bf16"),
        (SAPPHIRE_RAPIDS, "DEFAULT", "bf16"),
    ):  # fmt: skip
        cpu(text, isa)
        assert device_precision("auto") == expected, (text, isa)


@pytest.mark.parametrize("program", ["example_transformers", "example_transformers_image", "example_classify"])
def test_a_bundles_examples_compute_in_the_format_of_the_steps(cpu, program, monkeypatch):
    path = Path(build_bundle.__file__).parent / f"examples/{program}.py"
    module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location(program, path))
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "Path", lambda _: number_format.CPUINFO)
    limits = [None, "AVX2", "AVX512_CORE", "AVX512_CORE_BF16"]
    for text, isa in itertools.product([MILAN, GENOA, SAPPHIRE_RAPIDS, WITHOUT_AMX], limits):
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


def test_a_training_keeps_the_format_in_which_it_was_begun_and_a_head_reads_its_base_in_that_of_its_training(cpu):
    for text, wanted, begun, expected in (
        (GENOA, "auto", [], "bf16"), (GENOA, "auto", ["fp32"], "fp32"), (MILAN, "auto", ["bf16", "fp32"], "fp32"),
        (MILAN, "bf16", ["fp32"], "bf16"), (GENOA, "fp32", ["bf16"], "fp32"),
    ):  # fmt: skip
        cpu(text)
        assert precision_of_run(wanted, begun) == expected, (wanted, begun)
    for text, wanted, trained, expected in (
        (GENOA, "auto", "fp32", "fp32"), (GENOA, "auto", "bf16", "bf16"), (MILAN, "auto", "bf16", "fp32"),
        (GENOA, "fp32", "bf16", "fp32"),
    ):  # fmt: skip
        cpu(text)
        assert precision_of_answers(wanted, trained) == expected, (wanted, trained)
