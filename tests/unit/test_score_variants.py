"""Which variants a run has."""

import pytest

from scripts.common.config.runs import Run
from scripts.common.config.variants import answer_variants, gguf_quants, shipped_variant


def run(**settings) -> Run:
    return Run(dataset="d", model="m", **settings)


@pytest.mark.parametrize(
    ("settings", "variants"),
    [
        ({}, ["base", "adapter", "merged", "bf16"]),
        ({"quants": ["q8_0", "q4_k_m"]}, ["base", "adapter", "merged", "bf16", "q8_0", "q4_k_m"]),
        ({"quants": ["q8_0", "bf16"], "method": "full"}, ["base", "merged", "bf16", "q8_0"]),
        ({"quants": [], "method": "qlora"}, ["base", "adapter", "merged", "bf16"]),
        ({"method": "prompt"}, ["base"]),
        ({"task": "vision", "quants": ["q8_0"]}, ["base", "adapter", "merged", "bf16", "q8_0"]),
        ({"task": "token_classification", "method": "head"}, ["merged"]),
        ({"quants": ["q4_k_m"], "variants": ["q4_k_m", "base"]}, ["base", "q4_k_m"]),
    ],
)
def test_variants_of_a_run(settings, variants):
    assert answer_variants(run(**settings)) == variants


def test_bf16_is_made_first_and_once():
    assert gguf_quants(run(quants=["q8_0", "bf16"])) == ["bf16", "q8_0"]


@pytest.mark.parametrize(
    ("settings", "quant"),
    [
        ({"quants": ["q8_0", "q4_k_m"]}, "q4_k_m"),
        ({"quants": ["q8_0", "bf16"]}, "bf16"),
        ({"quants": ["q8_0", "q4_k_m"], "deploy": {"quant": "q8_0"}}, "q8_0"),
        ({"quants": []}, "bf16"),
        ({"method": "prompt"}, "base"),
        ({"task": "token_classification", "method": "lora"}, "merged"),
    ],
)
def test_the_shipped_variant_is_the_named_one_or_the_last(settings, quant):
    assert shipped_variant(run(**settings)) == quant
