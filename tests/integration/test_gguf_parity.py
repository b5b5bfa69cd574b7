"""Served is trained: a sound GGUF passes, and each usual fault, planted into a real file, is caught."""

import json

import numpy
import pytest
from transformers import AutoTokenizer

from scripts.common.chat_shape import ChatShape
from scripts.common.chat_template import without_generation_tags
from scripts.common.files import write_manifest
from scripts.gguf.check_parity import main
from scripts.gguf.conversations import built_in_conversations
from scripts.gguf.llama import chat_text, open_gguf, token_ids
from scripts.gguf.parity import divergences, is_expressible
from tests.support.gguf_files import changed, with_scaled_tensor, with_token_type, write_test_records
from tests.support.tiny_model import TEMPLATE, copy_model

SETTINGS = {"parity": {"max_kl": 0.02, "prompts": 2}, "generation": {"system": "Tu commentes."}}
TEMPLATE_KEY = "tokenizer.chat_template"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.fixture
def check(tmp_path, capfd):
    """Run the step on a model folder and a GGUF file; return exit status, the user's line, the log, the report."""

    def run(merged, gguf) -> tuple[int, str, str, dict | None]:
        test, report = write_test_records(tmp_path / "test.jsonl"), tmp_path / "parity.json"
        words = [str(merged), str(gguf), "--test", str(test), "--output", str(report), "--threads", "2"]
        status = main([*words, "--settings", json.dumps(SETTINGS)])
        log = capfd.readouterr().err
        line = log.splitlines()[-1].partition(" ERROR ")[2]
        return status, line, log, json.loads(report.read_text()) if report.exists() else None

    return run


def test_a_sound_file_passes_and_the_report_says_what_was_compared(tiny_base, tiny_gguf, check):
    status, line, _, report = check(tiny_base.parent, tiny_gguf)
    assert (status, line) == (0, "")
    assert report["conversations"] == {"equal": len(built_in_conversations()) + 6, "refused_by_both": []}
    assert report["modelfile"]["equal"] == report["conversations"]["equal"]
    assert report["special_tokens"] == {"<s>": 1, "</s>": 2, "[INST]": 3, "[/INST]": 4}
    assert report["adds_bos"] is True
    assert 0 <= report["divergence"]["mean"] <= report["divergence"]["max"] < 0.001
    assert report["divergence"]["top_token_agreement"] == 1
    assert ChatShape.from_json(report["shape"]).user_prefix == "[INST] "


def test_the_report_is_the_same_each_time(tiny_base, tiny_gguf, check):
    assert check(tiny_base.parent, tiny_gguf)[3] == check(tiny_base.parent, tiny_gguf)[3]


def test_a_system_message_that_both_sides_refuse_is_recorded(tiny_base, tiny_gguf, tmp_path, check):
    template = TEMPLATE.replace("{{ bos_token }}", "{{ bos_token }}" + NO_SYSTEM)
    status, line, _, report = check(*with_template(tiny_base.parent, tiny_gguf, tmp_path, template))
    assert (status, line) == (0, "")
    refused = report["conversations"]["refused_by_both"]
    with_system = [name for name in built_in_conversations() if name.endswith("with system")]
    assert refused == [*with_system, "test a, prompt of prediction", "test b, prompt of prediction"]
    assert report["shape"]["system"] == "none"


def with_template(merged, gguf, folder, template: str) -> tuple:
    """Return copies of a model folder and its GGUF file that both have another template."""
    model = copy_model(merged, folder / "model")
    (model / "chat_template.jinja").write_text(template)
    write_manifest(model)
    return model, changed(gguf, folder / "other.gguf", {TEMPLATE_KEY: without_generation_tags(template)})


def template_of(old: str, new: str):
    def plant(gguf, target):
        assert old in TEMPLATE
        return changed(gguf, target, {TEMPLATE_KEY: TEMPLATE.replace(old, new)})

    return plant


FAULTS = {
    "doubled BOS": (
        template_of("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"),
        "the GGUF's chat template writes another text at character 3 of 'accents, prompt'",
        "<s><s>[INST] Décris",
    ),
    "BOS doubled by a space before it": (
        lambda gguf, target: with_token_type(gguf, target, 1, 1),
        "the special token '<s>' is",
        "special token '<s>': training has 1, llama.cpp [",
    ),
    "changed template": (
        template_of("'[INST] ' +", "'[INST]' +"),
        "the GGUF's chat template writes another text at character 9 of 'accents, prompt'",
        "<s>[INST]Décris",
    ),
    "template of another model": (
        lambda gguf, target: changed(gguf, target, {TEMPLATE_KEY: CHATML}),
        "the GGUF's chat template writes another text at character 1 of 'accents, prompt'",
        "<|im_start|>user",
    ),
    "system message refused by one side": (
        template_of("{{ bos_token }}", "{{ bos_token }}" + NO_SYSTEM),
        "of 'accents, prompt, with system'",
        "the GGUF's template: None",
    ),
    "special token as ordinary text": (
        lambda gguf, target: with_token_type(gguf, target, 4, 1),
        "the special token '[/INST]' is 7 tokens of ordinary text in llama.cpp",
        "special token '[/INST]': training has 4, llama.cpp [",
    ),
    "missing add_space_prefix": (
        lambda gguf, target: changed(gguf, target, {"tokenizer.ggml.add_space_prefix": None}),
        "llama.cpp with the GGUF's template sees other tokens than training did, at token 3 of 'accents, prompt'",
        "  training (",
    ),
    "EOS after each prompt": (
        lambda gguf, target: changed(gguf, target, {"tokenizer.ggml.add_eos_token": True}),
        "llama.cpp with the GGUF's template sees other tokens than training did, at token",
        "2:'</s>'",
    ),
    "another EOS token": (
        lambda gguf, target: changed(gguf, target, {"tokenizer.ggml.eos_token_id": 5}),
        "the EOS token is 2 in training and 5 in the GGUF",
        "",
    ),
    "no template": (
        lambda gguf, target: changed(gguf, target, {TEMPLATE_KEY: None}),
        "has no chat template",
        "",
    ),
    "other weights": (
        lambda gguf, target: with_scaled_tensor(gguf, target, "output_norm.weight", 1.5),
        "nats (mean KL) from the merged model's, the limit is 0.02; largest at token",
        "KL divergence: mean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_with_both_sides_in_the_log(tiny_base, tiny_gguf, tmp_path, check, name):
    plant, expected, in_log = FAULTS[name]
    status, line, log, report = check(tiny_base.parent, plant(tiny_gguf, tmp_path / "spoilt.gguf"))
    assert status == 1
    assert report is None
    assert expected in line
    assert in_log in log


def test_a_template_without_eos_after_answers_is_caught(tiny_base, tiny_gguf, tmp_path, check):
    template = TEMPLATE.replace(" + eos_token", "")
    status, line, _, report = check(*with_template(tiny_base.parent, tiny_gguf, tmp_path, template))
    assert (status, report) == (1, None)
    assert "the answer of 'accents, answered' ends with '<0xA6>', at which llama.cpp does not stop" in line
    assert "the chat template has to write the EOS token after each answer" in line


def test_training_with_a_doubled_bos_is_caught(tiny_base, tiny_gguf, tmp_path, check):
    template = TEMPLATE.replace("{{ bos_token }}", "{{ bos_token + bos_token }}")
    status, line, _, report = check(*with_template(tiny_base.parent, tiny_gguf, tmp_path, template))
    assert (status, report) == (1, None)
    assert "training saw BOS twice at the start of 'accents, prompt'" in line


def test_llama_cpp_renders_and_tokenizes_as_transformers_do(tiny_base, tiny_gguf):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base.parent)
    with open_gguf(tiny_gguf, context=8, vocab_only=True) as model:
        for messages in built_in_conversations().values():
            open_ended = messages[-1]["role"] != "assistant"
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=open_ended)
            assert chat_text(model, messages, open_ended) == text
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert token_ids(model, text) == ids
            assert token_ids(model, text.removeprefix("<s>")) == ids


def test_the_divergence_is_that_of_kullback_and_leibler():
    p, q = numpy.array([[0.5, 0.25, 0.25]]), numpy.array([[0.25, 0.25, 0.5]])
    expected = 0.5 * numpy.log(2) + 0.25 * numpy.log(0.5)
    found = divergences(numpy.log(p) + 7, numpy.log(q) - 300)
    assert found == pytest.approx([expected])
    assert divergences(numpy.log(p), numpy.log(p)) == pytest.approx([0])


@pytest.mark.parametrize(
    ("roles", "placement", "expressible"),
    [
        (["user"], "first_user", True),
        (["system", "user", "assistant"], "first_user", True),
        (["system", "user"], "none", False),
        (["user", "user"], "in_place", False),
        (["user", "system", "user"], "in_place", True),
        (["user", "system", "user"], "at_start", False),
    ],
)
def test_what_ollama_can_write_is_known(roles, placement, expressible):
    pieces = dict.fromkeys(ChatShape.__dataclass_fields__, "") | {"system": placement, "trims": ()}
    messages = [{"role": role, "content": "x"} for role in roles]
    assert is_expressible(ChatShape(**pieces), messages) is expressible


def test_a_prompt_set_without_a_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["merged", "bf16.gguf", "--test", "test.jsonl", "--output", "o.json", "--prompt-set", "prompts.jsonl"])
    assert "--prompt-set: is not NAME=FILE" in capsys.readouterr().err
