"""Tekken tokenizers that were published with another model's pattern cut text as the model was made to read it."""

import json

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from scripts.common.files import check_manifest, read_json, write_json
from scripts.model.link_local_model import link_local_model
from scripts.model.tekken_pattern import TEKKEN, WRONG
from tests.support.tiny_model import without_manifest

SETTINGS = {"architecture": "mistral", "license": None, "trust_remote_code": False}
NAME = "O'Donnell, l'ÉCOLE, iPhone, 2024"


def make_source(base, folder, pattern, special=("<s>", "</s>", "[INST]", "[/INST]")):
    """Make a model folder whose tokenizer is a byte-level BPE that splits by a pattern, in the layout of Tekken's."""
    for path in without_manifest(base, folder).glob("tokenizer*"):
        path.unlink()
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_of])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=list(special))
    tokenizer.train_from_iterator(["O'Donnell O'Donnell 'Donnell l'ÉCOLE 'ÉCOLE ÉCOLE iPhone Phone 2024"] * 9, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"})
    return folder


def words(folder):
    """Return the words into which a folder's tokenizer cuts a text before it looks for pieces."""
    split = AutoTokenizer.from_pretrained(folder).backend_tokenizer.pre_tokenizer
    return [NAME[start:end] for _, (start, end) in split.pre_tokenize_str(NAME)]


def test_the_pattern_is_mended_for_everyone_who_loads_the_folder(tiny_base, tmp_path):
    source = make_source(tiny_base, tmp_path / "source", WRONG)
    assert "'D" in words(source)
    link_local_model(source, tmp_path / "m", "mine", SETTINGS)
    assert words(tmp_path / "m") == [
        "O", "'Donnell", ",", " l", "'ÉCOLE", ",", " i", "Phone", ",", " ", "2", "0", "2", "4"
    ]  # fmt: skip
    manifest = check_manifest(tmp_path / "m" / "manifest.json", hashes=True)
    assert manifest["mended"] == ["tokenizer.json"]
    assert read_json(tmp_path / "m" / "tokenizer_config.json")["fix_mistral_regex"] is True
    assert "'D" in words(source)


@pytest.mark.parametrize("case", ["right pattern", "another model", "another tokenizer"])
def test_nothing_else_is_touched(tiny_base, tmp_path, case):
    special = ("<s>", "</s>") if case == "another tokenizer" else ("<s>", "</s>", "[INST]")
    source = make_source(tiny_base, tmp_path / "source", TEKKEN if case == "right pattern" else WRONG, special)
    if case == "another model":
        config = read_json(source / "config.json") | {"model_type": "llama"}
        (source / "config.json").write_text(json.dumps(config))
    link_local_model(source, tmp_path / "m", "mine", SETTINGS)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "m" / name).read_bytes() == (source / name).read_bytes()
    assert "mended" not in check_manifest(tmp_path / "m" / "manifest.json")
