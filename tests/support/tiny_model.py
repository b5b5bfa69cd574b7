"""A very small model of a real architecture with a SentencePiece byte-fallback tokenizer; for tests."""

import io
import json
import shutil
from pathlib import Path

from scripts.common.files import read_json, write_manifest

CONTROL_SYMBOLS = ["[INST]", "[/INST]", "<|im_start|>", "<|im_end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] + '\\n\\n' %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system = '' %}
    {%- set turns = messages %}
{%- endif %}
{%- for message in turns %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate: user, assistant, user, ...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}
    {%- else %}
        {%- generation %}
        {{- ' ' + message['content'] + eos_token }}
        {%- endgeneration %}
    {%- endif %}
{%- endfor %}
"""
SENTENCES = [
    "But de la tête à la 23e minute, le gardien était battu.",
    "Remplacement pour l'équipe de France : le numéro 9 entre en jeu.",
    "Ngày xửa ngày xưa, trong một ngôi làng nhỏ có một cô bé sống bên bờ sông.",
    "Lá bài bảo vệ giúp cả cộng đồng vượt qua cơn bão dữ.",
    "Once upon a time there was a small model that could hardly speak.",
    "Carton jaune pour une faute grossière au milieu du terrain.",
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}


def make_tiny_tokenizer(
    folder: Path, vocabulary: int = 640, template: str = TEMPLATE, symbols: list[str] = CONTROL_SYMBOLS
) -> None:
    """Train a SentencePiece BPE tokenizer with byte fallback and save it as Hugging Face tokenizers are saved."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary,
        byte_fallback=True,
        control_symbols=symbols,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    names = ["<unk>", "<s>", "</s>", *symbols]
    added = {
        str(processor.piece_to_id(name)): {
            "content": name, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": True,
        }
        for name in names
    }  # fmt: skip
    settings = {
        **SPECIAL,
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": symbols,
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def make_tiny_model(
    folder: Path,
    architecture: str = "mistral",
    template: str = TEMPLATE,
    seed: int = 0,
    intermediate: int = 256,
    layers: int = 1,
) -> Path:
    """Make a model of one or two hundred thousand random weights; return its folder.

    Its logits are spread wide enough for distributions to differ from one token to the next.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    make_tiny_tokenizer(folder, template=template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kinds = {"mistral": (MistralConfig, MistralForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
    config_kind, model_kind = kinds[architecture]
    torch.manual_seed(seed)
    config = config_kind(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    model = model_kind(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def copy_model(source: Path, folder: Path) -> Path:
    """Copy a model's folder, for a test that plants a fault in it."""
    return Path(shutil.copytree(source, folder))


def without_manifest(base: Path, folder: Path) -> Path:
    """Copy the model folder of a manifest as a user or the hub has it; return the copy."""
    return Path(shutil.copytree(base.parent, folder, ignore=shutil.ignore_patterns("manifest.json")))


def changed_base(base: Path, folder: Path, **entries) -> Path:
    """Copy the model folder of a manifest, with other entries in config.json; return the copy's manifest."""
    config = copy_model(base.parent, folder) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | entries), encoding="utf-8")
    return write_manifest(folder, **{key: value for key, value in read_json(base).items() if key != "files"})


def split_in_two(base: Path, folder: Path) -> Path:
    """Copy the model folder of a manifest with its weights in two files; return the copy's manifest."""
    split_weights(copy_model(base.parent, folder))
    return write_manifest(folder, name="tiny", id=None, revision=None)


def split_weights(folder: Path) -> None:
    """Put the weights of a model folder in two files with an index."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        part = {name: tensor for name, tensor in tensors.items() if places[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
