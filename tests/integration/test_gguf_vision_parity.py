"""Served is trained, with images: a sound pair of files passes, and each fault, planted into real files, is caught."""

import json

import pytest
from gguf import GGUFReader
from transformers import AutoTokenizer

from scripts.gguf.check_parity import main
from scripts.gguf.conversations import built_in_conversations
from tests.support.gguf_files import changed, with_scaled_tensor, with_token_type

TEMPLATE_KEY, LONGEST_EDGE = "tokenizer.chat_template", "clip.vision.preproc_image_size"


@pytest.fixture
def check(tiny_vision, tmp_path, capfd):
    """Run the step on a GGUF file and an mmproj file; return exit status, the user's line, the log, the report."""

    def run(gguf=None, mmproj=None, longest_edge=None) -> tuple[int, str, str, dict | None]:
        settings = {
            "task": "vision",
            "vision": {"longest_edge": longest_edge},
            "parity": {"max_kl": 0.02, "prompts": 4},
            "generation": {"system": None},
        }
        report = tmp_path / "parity.json"
        words = [tiny_vision.merged, gguf or tiny_vision.gguf, "--mmproj", mmproj or tiny_vision.mmproj]
        words += ["--images", tiny_vision.data, "--test", tiny_vision.test, "--output", report, "--threads", "2"]
        status = main([*map(str, words), "--settings", json.dumps(settings)])
        log = capfd.readouterr().err
        assert status < 2, log
        line = log.splitlines()[-1].partition(" ERROR ")[2]
        return status, line, log, json.loads(report.read_text()) if report.exists() else None

    return run


def test_a_sound_pair_passes_and_the_report_says_what_was_compared(check):
    status, line, _, report = check()
    assert (status, line) == (0, "")
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
    assert check()[3] == report


def test_smaller_images_pass_where_training_had_them_smaller(check):
    status, _, _, report = check(longest_edge=56)
    assert status == 0
    assert report["images"]["tokens"] == 2 * 3 + 1 * 3 + 2 * 2 + 2 * 3


def template_of(old: str, new: str):
    def plant(run, target):
        template = GGUFReader(run.gguf).fields[TEMPLATE_KEY].contents()
        assert old in template
        return changed(run.gguf, target, {TEMPLATE_KEY: template.replace(old, new)}), None

    return plant


def image_token(run, name: str) -> int:
    return AutoTokenizer.from_pretrained(run.merged).convert_tokens_to_ids(name)


FAULTS = {
    "end of images as ordinary text": (
        lambda run, target: (with_token_type(run.gguf, target, image_token(run, "[IMG_END]"), 1), None),
        "the special token '[IMG_END]' is",
    ),
    "images at another place": (
        template_of('turn.text + part["text"]', 'part["text"] + turn.text'),
        "sees other tokens than training did, at token 2 of 'test a, prompt, text 1': 'L' instead of the end",
    ),
    "something after images": (
        template_of('turn.text + part["text"]', 'turn.text + " " + part["text"]'),
        "sees other tokens than training did, at token 2 of 'test a, prompt, text 1'",
    ),
    "larger images": (
        lambda run, target: (None, changed(run.mmproj, target, {LONGEST_EDGE: 224})),
        "images/large.png has (6, 8) rows and columns of tokens, not (3, 4)",
    ),
    "another projector": (
        lambda run, target: (None, with_scaled_tensor(run.mmproj, target, "mm.input_norm.weight", 1.5)),
        "of their length away from the merged model's, the limit is 0.1",
    ),
    "another break": (
        lambda run, target: (None, with_scaled_tensor(run.mmproj, target, "v.token_embd.img_break", -3.0)),
        "of their length away from the merged model's, the limit is 0.1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(tiny_vision, tmp_path, check, name):
    plant, expected = FAULTS[name]
    status, line, _, report = check(*plant(tiny_vision, tmp_path / "spoilt.gguf"))
    assert (status, report) == (1, None)
    assert expected in line
