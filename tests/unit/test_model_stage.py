"""Base models: which folders are taken, what is kept of them, and the embedded ones."""

import json
import random
import shutil

import pytest
import sentencepiece
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.common.config.models import EmbeddedModel
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_jsonl
from scripts.model.build_embedded_model import build_embedded_model, sampled_ids, texts_of
from scripts.model.chat_templates import BUILT_IN, BUILT_IN_TEMPLATES, template_text
from scripts.model.generate_corpus import main as generate_corpus
from scripts.model.link_local_model import link_local_model
from scripts.model.safetensors_files import count_parameters
from scripts.model.subword_dropout import dropped_ids, scores_of_pieces

SETTINGS = {"architecture": "mistral", "license": "MIT", "trust_remote_code": False}
MISTRAL = BUILT_IN_TEMPLATES["mistral"]
TINY = EmbeddedModel(layers=1, vocabulary=700, documents=60, steps=4, batch_tokens=512)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    assert generate_corpus(["--documents", "120", "--seed", "0", "--output", str(path)]) == 0
    return path


@pytest.fixture
def source(tiny_base, tmp_path):
    return shutil.copytree(tiny_base.parent, tmp_path / "source", ignore=shutil.ignore_patterns("manifest.json"))


@pytest.mark.parametrize("architecture", ["mistral", "llama"])
def test_an_embedded_model_is_a_plain_model_folder(corpus, tmp_path, architecture):
    build_embedded_model(corpus, tmp_path / "m", "m", architecture, TINY, BUILT_IN_TEMPLATES[BUILT_IN[architecture]])
    facts = check_manifest(tmp_path / "m" / "manifest.json", hashes=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert facts["source"] == "embedded"
    assert model.config.model_type == architecture
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    text = "L'été à Évian : « Một cơn bão » ⚽\n\n  deux espaces"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("architecture", ["mistral", "llama"])
def test_the_template_marks_the_assistants_tokens(corpus, tmp_path, architecture):
    build_embedded_model(corpus, tmp_path / "m", "m", architecture, TINY, BUILT_IN_TEMPLATES[BUILT_IN[architecture]])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    turns = [{"role": "user", "content": "But ?"}, {"role": "assistant", "content": "Oui."}]
    row = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    trained = [token for token, use in zip(row["input_ids"], row["assistant_masks"], strict=True) if use]
    assert tokenizer.decode(trained).strip() == f"Oui.{tokenizer.eos_token}"


def test_an_embedded_model_is_the_same_each_time(corpus, tmp_path):
    for name in ("a", "b"):
        build_embedded_model(corpus, tmp_path / name, "m", "mistral", TINY, MISTRAL)
    assert check_manifest(tmp_path / "a" / "manifest.json") == check_manifest(tmp_path / "b" / "manifest.json")


def test_an_embedded_model_learns(corpus, tmp_path):
    short, longer = TINY, TINY.model_copy(update={"steps": 40})
    losses = []
    for name, settings in (("short", short), ("longer", longer)):
        build_embedded_model(corpus, tmp_path / name, name, "mistral", settings, MISTRAL)
        losses.append(check_manifest(tmp_path / name / "manifest.json")["final_loss"])
    assert losses[1] < losses[0] - 0.5


def test_a_local_model_is_linked_not_copied(source, tmp_path):
    link_local_model(source, tmp_path / "m", "mine", SETTINGS)
    assert (tmp_path / "m" / "model.safetensors").is_symlink()
    facts = check_manifest(tmp_path / "m" / "manifest.json", hashes=True)
    assert (facts["source"], facts["name"], facts["license"]) == ("path", "mine", "MIT")
    assert torch.is_tensor(next(AutoModelForCausalLM.from_pretrained(tmp_path / "m").parameters()))


def test_the_configured_chat_template_takes_the_models_place(source, tmp_path):
    link_local_model(source, tmp_path / "m", "mine", SETTINGS, BUILT_IN_TEMPLATES["chatml"])
    assert AutoTokenizer.from_pretrained(tmp_path / "m").chat_template == template_text("chatml")
    assert (source / "chat_template.jinja").read_text() != template_text("chatml")


def test_pickled_weights_are_refused(source, tmp_path):
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has no \.safetensors file, only pytorch_model\.bin, which can hide code"):
        link_local_model(source, tmp_path / "m", "mine", SETTINGS)


def test_a_model_that_needs_code_of_its_own_is_refused(source, tmp_path):
    config = json.loads((source / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"needs Python code of its own .* 'trust_remote_code: true'"):
        link_local_model(source, tmp_path / "m", "mine", SETTINGS)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: is no folder; name the folder of a Hugging Face model"):
        link_local_model(tmp_path / "nowhere", tmp_path / "m", "mine", SETTINGS)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(UserError, match="is no safetensors file"):
        count_parameters(tmp_path / "model.safetensors")


def test_nothing_of_an_earlier_model_is_left_in_the_folder(source, tmp_path):
    link_local_model(source, tmp_path / "m", "mine", SETTINGS, BUILT_IN_TEMPLATES["chatml"])
    (source / "model.safetensors").rename(source / "other.safetensors")
    link_local_model(source, tmp_path / "m", "mine", SETTINGS)
    facts = check_manifest(tmp_path / "m" / "manifest.json", hashes=True)
    assert [name for name in facts["files"] if name.endswith(".safetensors")] == ["other.safetensors"]
    assert AutoTokenizer.from_pretrained(tmp_path / "m").chat_template != template_text("chatml")


def test_subword_dropout_cuts_words_into_other_pieces_but_keeps_text_and_special_tokens(corpus, tmp_path):
    build_embedded_model(corpus, tmp_path / "m", "m", "mistral", TINY, MISTRAL)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m" / "tokenizer.model"))
    text, specials = "<s>[INST] Le gardien relance, été comme hiver.[/INST]", {"<s>": 1, "[INST]": 3, "[/INST]": 4}
    scores, generator = scores_of_pieces(processor), random.Random(0)
    whole = sampled_ids(processor, scores, text, specials, 0, generator)
    pieces = [sampled_ids(processor, scores, text, specials, 0.3, generator) for _ in range(5)]
    assert whole == AutoTokenizer.from_pretrained(tmp_path / "m")(text, add_special_tokens=False)["input_ids"]
    assert len({tuple(ids) for ids in [whole, *pieces]}) > 2
    assert all(processor.decode(ids) == processor.decode(whole) and ids[:2] == [1, 3] for ids in pieces)


def test_without_dropout_the_merges_are_sentencepieces_own_and_a_seed_gives_the_same_pieces(corpus, tmp_path):
    build_embedded_model(corpus, tmp_path / "m", "m", "mistral", TINY, MISTRAL)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m" / "tokenizer.model"))
    scores = scores_of_pieces(processor)
    texts = [text for document in read_jsonl(corpus) for text in texts_of(document)]
    for text in [*texts, "  deux  espaces, 2026 \n été 🎉 Đêm "]:
        assert dropped_ids(processor, scores, text, 0, random.Random(0)) == processor.encode(text)
    first, second = (dropped_ids(processor, scores, " ".join(texts), 0.1, random.Random(3)) for _ in range(2))
    assert first == second != processor.encode(" ".join(texts))
