"""Parity of serving and training: a sound GGUF passes, and each usual fault, planted into a real file, is caught."""

import ctypes
import json
from types import SimpleNamespace

import numpy
import psutil
import pytest

from scripts.common.chat_shape import ChatShape
from scripts.common.chat_template import without_generation_tags
from scripts.common.files import write_manifest
from scripts.gguf.check_parity import main
from scripts.gguf.conversations import built_in_conversations
from scripts.gguf.parity import divergences
from tests.support.chat_templates import template_text
from tests.support.gguf_files import as_ordinary_text, changed, with_scaled_tensor, write_test_records
from tests.support.tiny_model import TEMPLATE, copy_model

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of glibc's mallopt
TEMPLATE_KEY = "tokenizer.chat_template"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
BOS = "{{ bos_token }}"


@pytest.fixture
def check(tiny_base, tmp_path, capfd):
    """Run the step on a GGUF file; return exit status, the user's line, the log, the report."""

    def run(gguf, merged=tiny_base.parent, test=None, *more, **settings) -> tuple[int, str, str, dict | None]:
        test, report = test or write_test_records(tmp_path / "test.jsonl"), tmp_path / "parity.json"
        words = [merged, gguf, "--test", test, "--output", report, "--threads", "2", *more]
        settings = {"parity": {"max_kl": 0.02, "prompts": 2}, "generation": {"system": "Tu commentes."}} | settings
        status = main([*map(str, words), "--settings", json.dumps(settings)])
        log = capfd.readouterr().err
        assert status < 2, log
        line = log.splitlines()[-1].partition(" ERROR ")[2]
        return status, line, log, json.loads(report.read_text()) if report.exists() else None

    return run


@pytest.fixture
def check_images(tiny_vision, check):
    """Run the step on the files of a vision run, one of which may be another."""

    def run(longest_edge=None, **files) -> tuple[int, str, str, dict | None]:
        settings = {"task": "vision", "vision": {"longest_edge": longest_edge}, "generation": {"system": None}}
        more = ["--mmproj", files.get("mmproj", tiny_vision.mmproj), "--images", tiny_vision.data]
        return check(files.get("gguf", tiny_vision.gguf), tiny_vision.merged, tiny_vision.test, *more, **settings)

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


def test_layers_that_main_memory_is_too_small_for_are_read_from_the_files(
    tiny_gguf, tiny_base, tiny_vision, check, check_images, monkeypatch
):
    for run, folder in ((lambda: check(tiny_gguf), tiny_base.parent), (check_images, tiny_vision.merged)):
        report = run()[3]
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        with monkeypatch.context() as small:
            small.setattr(psutil, "virtual_memory", lambda size=size: SimpleNamespace(available=1.9 * size))
            status, line, log, found = run()
        assert (status, line, found) == (0, "", report), log
        assert "offloaded to the" in log


def test_a_sound_pair_for_images_passes_and_the_report_says_what_was_compared(check_images):
    status, line, log, report = check_images()
    assert (status, line) == (0, ""), log
    assert report["conversations"]["equal"] == len(built_in_conversations()) + 2
    images = report["images"]
    assert images["conversations"] == images["modelfile"]["equal"] == 6
    assert list(images["special_tokens"]) == ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    assert (images["images"], images["tokens"]) == (4, 4 * 5 + 2 * 5 + 4 * 3 + 3 * 5)
    assert 0 < images["embeddings"]["mean_error"] <= images["embeddings"]["max_error"] < 0.02
    assert 0 < images["divergence"]["mean"] <= images["divergence"]["max"] < 0.001
    assert 0 < report["divergence"]["mean"] < 0.001
    # libmtmd by itself: 30x95 and 100x40 pixels are made larger, to 8 tokens, and 301x203 stays below the 1024.
    assert images["otherwise_in_a_server"] == 3
    status, _, _, smaller = check_images(longest_edge=56)  # as training had them
    assert (status, smaller["images"]["tokens"]) == (0, 2 * 3 + 1 * 3 + 2 * 2 + 2 * 3)


def test_memory_that_was_used_before_does_not_spoil_images(check_images):
    libc, usual, size = ctypes.CDLL(None), 128 * 2**10, 400 * 2**20
    libc.malloc.restype = ctypes.c_void_p
    for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):  # blocks that are given back are given out again
        libc.mallopt(option, 2**30)
    block = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(block, 0xFF, size)  # NaN
    libc.free(ctypes.c_void_p(block))
    try:
        status, line, log, report = check_images()
    finally:
        for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            libc.mallopt(option, usual)
    assert (status, line) == (0, ""), log
    assert report["images"]["embeddings"]["max_error"] < 0.02


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


# File, change (metadata, a token that becomes ordinary text, or a tensor and a factor), the user's line, the log.
OTHER_TEXT = "the GGUF's template differs at character {} of 'accents, prompt'"
OTHER_TOKENS = "llama.cpp with the GGUF's template gives other token ids, at token"
OTHER_IMAGES = "gives other token ids, at token 2 of 'test a, prompt, text 1'"
TOO_FAR = "(relative) from the merged model's; the limit is 0.1"
IMAGE_TEMPLATE, TEXT_LAST = without_generation_tags(template_text("mistral3")), 'turn.text + part["text"]'
FAULTS = {
    "doubled BOS": ("text", {TEMPLATE_KEY: TEMPLATE.replace(BOS, BOS + BOS)}, OTHER_TEXT.format(3), "<s><s>[INST] Déc"),
    "BOS doubled by a space": ("text", "<s>", "the special token '<s>' is", "token '<s>': training has 1, llama.cpp ["),
    "changed template": (
        "text", {TEMPLATE_KEY: TEMPLATE.replace("'[INST] ' +", "'[INST]' +")}, OTHER_TEXT.format(9), "<s>[INST]Décris",
    ),
    "template of another model": ("text", {TEMPLATE_KEY: CHATML}, OTHER_TEXT.format(1), "<|im_start|>user"),
    "system message refused by one side": (
        "text", {TEMPLATE_KEY: TEMPLATE.replace(BOS, BOS + NO_SYSTEM)},
        "of 'accents, prompt, with system'", "the GGUF's template: None",
    ),
    "special token as ordinary text": (
        "text", "[/INST]", "'[/INST]' is 7 tokens of ordinary text in llama.cpp", "training has 4, llama.cpp [",
    ),
    "missing add_space_prefix": (
        "text", {"tokenizer.ggml.add_space_prefix": None}, f"{OTHER_TOKENS} 3 of 'accents, prompt'", "  training (",
    ),
    "EOS after each prompt": ("text", {"tokenizer.ggml.add_eos_token": True}, OTHER_TOKENS, "2:'</s>'"),
    "another EOS token": (
        "text", {"tokenizer.ggml.eos_token_id": 5}, "the EOS token is 2 in training and 5 in the GGUF", "",
    ),
    "no template": ("text", {TEMPLATE_KEY: None}, "has no chat template", ""),
    "other weights": (
        "text", ("output_norm.weight", 1.5), "nats (mean KL) from the merged model's, the limit is 0.02",
        "KL divergence: mean",
    ),
    "end of images as ordinary text": ("gguf", "[IMG_END]", "the special token '[IMG_END]' is", ""),
    "images at another place": (
        "gguf", {TEMPLATE_KEY: IMAGE_TEMPLATE.replace(TEXT_LAST, 'part["text"] + turn.text')},
        f"{OTHER_IMAGES}: 'L' instead of the end", "",
    ),
    "something after images": (
        "gguf", {TEMPLATE_KEY: IMAGE_TEMPLATE.replace(TEXT_LAST, 'turn.text + " " + part["text"]')}, OTHER_IMAGES, "",
    ),
    "larger images": (
        "mmproj", {"clip.vision.preproc_image_size": 224},
        "images/large.png has (6, 8) rows and columns of tokens, not (3, 4)", "",
    ),
    "another projector": ("mmproj", ("mm.input_norm.weight", 1.5), TOO_FAR, ""),
    "another break": ("mmproj", ("v.token_embd.img_break", -3.0), TOO_FAR, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_with_both_sides_in_the_log(
    tiny_gguf, tiny_vision, tmp_path, check, check_images, name
):
    (file, fault, expected, in_log), spoilt = FAULTS[name], tmp_path / "spoilt.gguf"
    source = tiny_gguf if file == "text" else getattr(tiny_vision, file)
    if isinstance(fault, dict):
        changed(source, spoilt, fault)
    elif isinstance(fault, str):
        as_ordinary_text(source, spoilt, fault)
    else:
        with_scaled_tensor(source, spoilt, *fault)
    status, line, log, report = check(spoilt) if file == "text" else check_images(**{file: spoilt})
    assert (status, report) == (1, None)
    assert expected in line
    assert in_log in log


def test_the_divergence_is_that_of_kullback_and_leibler():
    p, q = numpy.array([[0.5, 0.25, 0.25]]), numpy.array([[0.25, 0.25, 0.5]])
    found = divergences(numpy.log(p) + 7, numpy.log(q) - 300)
    assert found == pytest.approx([0.5 * numpy.log(2) + 0.25 * numpy.log(0.5)])
    assert divergences(numpy.log(p), numpy.log(p)) == pytest.approx([0])
