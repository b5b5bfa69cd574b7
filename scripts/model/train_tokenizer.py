"""Train a SentencePiece BPE tokenizer with byte fallback, like Mistral 7B's, for transformers and llama.cpp.

For equal token ids in both it uses control symbols (llama.cpp splits user-defined ones into letters), no normalisation,
no dummy prefix, and `add_prefix_space: false` in tokenizer_config.json (the only source of the converter for
`tokenizer.ggml.add_space_prefix`).
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scripts.common.files import write_json


@dataclass(frozen=True)
class SpecialTokens:
    """Names of an architecture's special tokens; `control` are those of its chat template.

    `swallow`: these tokens and the end token strip white space after them, as in Phi-3.
    """

    bos: str
    eos: str
    control: tuple[str, ...]
    swallow: bool = False


SPECIAL_TOKENS = {
    "mistral": SpecialTokens("<s>", "</s>", ("[INST]", "[/INST]")),
    "mistral3": SpecialTokens(
        "<s>",
        "</s>",
        ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    ),
    "llama": SpecialTokens(
        "<|begin_of_text|>", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>")
    ),
    "phi3": SpecialTokens(
        "<s>", "<|end|>", ("<|system|>", "<|user|>", "<|assistant|>", "</s>", "<|endoftext|>"), swallow=True
    ),
}
PADDING = "<pad>"


def train_tokenizer(texts: Iterable[str], vocabulary: int, special: SpecialTokens) -> bytes:
    """Return a SentencePiece model of about `vocabulary` pieces; deterministic (one thread)."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary,
        hard_vocab_limit=False,
        byte_fallback=True,
        bos_piece=special.bos,
        eos_piece=special.eos,
        control_symbols=[*special.control, PADDING],
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        max_sentence_length=100_000,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def swallowing_tokens(model: bytes, special: SpecialTokens) -> dict[str, dict]:
    """Return the entries of tokenizer_config.json that make chat tokens strip white space after them."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    flags = {"lstrip": False, "rstrip": True, "normalized": False, "single_word": False, "special": True}
    return {str(pieces.piece_to_id(token)): {"content": token, **flags} for token in (special.eos, *special.control)}


def save_tokenizer(folder: Path, model: bytes, special: SpecialTokens, chat_template: str, context: int) -> None:
    """Write tokenizer.model, tokenizer.json, tokenizer_config.json and chat_template.jinja into a model folder."""
    from transformers import AutoTokenizer

    (folder / "tokenizer.model").write_bytes(model)
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": special.bos,
        "eos_token": special.eos,
        "unk_token": "<unk>",
        "pad_token": PADDING,
        "add_bos_token": True,
        "add_eos_token": False,
        "add_prefix_space": False,
        "legacy": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }
    if special.swallow:
        settings["added_tokens_decoder"] = swallowing_tokens(model, special)
    write_json(folder / "tokenizer_config.json", settings, part=True)
    (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    AutoTokenizer.from_pretrained(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))
