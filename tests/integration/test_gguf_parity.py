"""Parity of serving and training: a sound GGUF passes, and each usual fault, planted into a real file, is caught."""

import json

import numpy
import pytest

from scripts.common.chat_shape import ChatShape
from scripts.common.chat_template import without_generation_tags
from scripts.common.files import write_manifest
from scripts.gguf.check_parity import main
from scripts.gguf.conversations import built_in_conversations
from scripts.gguf.parity import divergences
from tests.support.gguf_files import changed, with_scaled_tensor, with_token_type, write_test_records
from tests.support.tiny_model import TEMPLATE, copy_model

SETTINGS = {"parity": {"max_kl": 0.02, "prompts": 2}, "generation": {"system": "Tu commentes."}}
TEMPLATE_KEY = "tokenizer.chat_template"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
BOS = "{{ bos_token }}"


@pytest.fixture
def check(tiny_base, tmp_path, capfd):
    """Run the step on a GGUF file; return exit status, the user's line, the log, the report."""

    def run(gguf, merged=tiny_base.parent) -> tuple[int, str, str, dict | None]:
        test, report = write_test_records(tmp_path / "test.jsonl"), tmp_path / "parity.json"
        words = [str(merged), str(gguf), "--test", str(test), "--output", str(report), "--threads", "2"]
        status = main([*words, "--settings", json.dumps(SETTINGS)])
        log = capfd.readouterr().err
        line = log.splitlines()[-1].partition(" ERROR ")[2]
        return status, line, log, json.loads(report.read_text()) if report.exists() else None

    return run


def test_a_sound_file_passes_and_the_report_says_what_was_compared_the_same_each_time(tiny_gguf, check):
    status, line, _, report = check(tiny_gguf)
    assert (status, line) == (0, "")
    assert report["conversations"] == {"equal": len(built_in_conversations()) + 6, "refused_by_both": []}
    assert report["modelfile"]["equal"] == report["conversations"]["equal"]
    assert report["special_tokens"] == {"<s>": 1, "</s>": 2, "[INST]": 3, "[/INST]": 4}
    assert report["adds_bos"] is True
    assert 0 <= report["divergence"]["mean"] <= report["divergence"]["max"] < 0.001
    assert report["divergence"]["top_token_agreement"] == 1
    assert ChatShape.from_json(report["shape"]).user_prefix == "[INST] "
    assert check(tiny_gguf)[3] == report


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (BOS, BOS + NO_SYSTEM, None),
        (" + eos_token", "", "the answer of 'accents, answered' ends with '<0xA6>', where llama.cpp does not stop"),
        (BOS, BOS + BOS, "training saw BOS twice at the start of 'accents, prompt'"),
    ],
)
def test_a_template_that_both_sides_have_may_refuse_system_messages_but_not_lack_eos_or_double_bos(
    tiny_base, tiny_gguf, tmp_path, check, old, new, said
):
    template, model = TEMPLATE.replace(old, new), copy_model(tiny_base.parent, tmp_path / "model")
    (model / "chat_template.jinja").write_text(template)
    write_manifest(model)
    gguf = changed(tiny_gguf, tmp_path / "other.gguf", {TEMPLATE_KEY: without_generation_tags(template)})
    status, line, _, report = check(gguf, model)
    if said:
        assert (status, report) == (1, None)
        assert said in line
    else:
        assert (status, line, report["shape"]["system"]) == (0, "", "none")
        with_system = [name for name in built_in_conversations() if name.endswith("with system")]
        refused = [*with_system, "test a, prompt of prediction", "test b, prompt of prediction"]
        assert report["conversations"]["refused_by_both"] == refused


# The change (metadata, a token that becomes ordinary text, or a factor of a tensor), the user's line, the log.
OTHER_TEXT = "the GGUF's template differs at character {} of 'accents, prompt'"
OTHER_TOKENS = "llama.cpp with the GGUF's template gives other token ids, at token"
FAULTS = {
    "doubled BOS": ({TEMPLATE_KEY: TEMPLATE.replace(BOS, BOS + BOS)}, OTHER_TEXT.format(3), "<s><s>[INST] Décris"),
    "BOS doubled by a space before it": (1, "the special token '<s>' is", "token '<s>': training has 1, llama.cpp ["),
    "changed template": (
        {TEMPLATE_KEY: TEMPLATE.replace("'[INST] ' +", "'[INST]' +")}, OTHER_TEXT.format(9), "<s>[INST]Décris",
    ),
    "template of another model": ({TEMPLATE_KEY: CHATML}, OTHER_TEXT.format(1), "<|im_start|>user"),
    "system message refused by one side": (
        {TEMPLATE_KEY: TEMPLATE.replace(BOS, BOS + NO_SYSTEM)},
        "of 'accents, prompt, with system'", "the GGUF's template: None",
    ),
    "special token as ordinary text": (
        4, "the special token '[/INST]' is 7 tokens of ordinary text in llama.cpp", "training has 4, llama.cpp [",
    ),
    "missing add_space_prefix": (
        {"tokenizer.ggml.add_space_prefix": None}, f"{OTHER_TOKENS} 3 of 'accents, prompt'", "  training (",
    ),
    "EOS after each prompt": ({"tokenizer.ggml.add_eos_token": True}, OTHER_TOKENS, "2:'</s>'"),
    "another EOS token": ({"tokenizer.ggml.eos_token_id": 5}, "the EOS token is 2 in training and 5 in the GGUF", ""),
    "no template": ({TEMPLATE_KEY: None}, "has no chat template", ""),
    "other weights": (1.5, "nats (mean KL) from the merged model's, the limit is 0.02", "KL divergence: mean"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_with_both_sides_in_the_log(tiny_gguf, tmp_path, check, name):
    (fault, expected, in_log), path = FAULTS[name], tmp_path / "spoilt.gguf"
    if isinstance(fault, dict):
        changed(tiny_gguf, path, fault)
    elif isinstance(fault, int):
        with_token_type(tiny_gguf, path, fault, 1)
    else:
        with_scaled_tensor(tiny_gguf, path, "output_norm.weight", fault)
    status, line, log, report = check(path)
    assert (status, report) == (1, None)
    assert expected in line
    assert in_log in log


def test_the_divergence_is_that_of_kullback_and_leibler():
    p, q = numpy.array([[0.5, 0.25, 0.25]]), numpy.array([[0.25, 0.25, 0.5]])
    found = divergences(numpy.log(p) + 7, numpy.log(q) - 300)
    assert found == pytest.approx([0.5 * numpy.log(2) + 0.25 * numpy.log(0.5)])
    assert divergences(numpy.log(p), numpy.log(p)) == pytest.approx([0])
