"""Which variants a run has."""

import pytest

from scripts.config.runs import Run
from scripts.config.variants import answer_variants, gguf_quants, shipped_variant

FOUR = ["base", "adapter", "merged", "bf16"]


@pytest.mark.parametrize(
    ("settings", "variants", "shipped"),
    [
        ({}, FOUR, "bf16"),
        ({"quants": ["q8_0", "q4_k_m"]}, [*FOUR, "q8_0", "q4_k_m"], "q4_k_m"),
        ({"quants": ["q8_0", "q4_k_m"], "deploy": {"quant": "q8_0"}}, [*FOUR, "q8_0", "q4_k_m"], "q8_0"),
        ({"quants": ["q8_0", "bf16"], "method": "full"}, ["base", "merged", "bf16", "q8_0"], "bf16"),
        ({"quants": [], "method": "qlora"}, FOUR, "bf16"),
        ({"method": "prompt"}, ["base"], "base"),
        ({"task": "vision", "quants": ["q8_0"]}, [*FOUR, "q8_0"], "q8_0"),
        ({"task": "token_classification", "method": "head"}, ["merged"], "merged"),
        ({"task": "token_classification", "method": "lora"}, ["merged"], "merged"),
        ({"quants": ["q4_k_m"], "variants": ["q4_k_m", "base"]}, ["base", "q4_k_m"], "q4_k_m"),
    ],
)
def test_the_variants_of_a_run_of_which_the_named_one_or_the_last_is_shipped(settings, variants, shipped):
    asked = Run(dataset="d", model="m", **settings)
    assert (answer_variants(asked), shipped_variant(asked)) == (variants, shipped)


def test_bf16_is_made_first_and_once():
    assert gguf_quants(Run(dataset="d", model="m", quants=["q8_0", "bf16"])) == ["bf16", "q8_0"]
