"""The vocabularies of Llama 3 and Phi-3, as llama.cpp keeps them for its own tests, made into tokenizers again, and
the chat templates of real models.

They come with the pinned source archive that the converter is taken from. The models' weights are not needed to see
whether tokenizers and templates survive the way to GGUF.
"""

import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from scripts.common.files import atomic_folder
from scripts.common.gguf_header import read_header
from scripts.common.gguf_layout import TEXT, Cursor
from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE, download_archive
from tests.support.gguf_files import CONVERTER

NAMES = ("ggml-vocab-llama-bpe.gguf", "ggml-vocab-phi-3.gguf")
TEMPLATES = (
    "meta-llama-Llama-3.1-8B-Instruct.jinja",
    "meta-llama-Llama-3.2-3B-Instruct.jinja",
    "Mistral-Small-3.2-24B-Instruct-2506.jinja",
)
NORMAL, CONTROL, BYTE = 1, 3, 6
# As in the tokenizer.json of Meta-Llama-3-8B: llama.cpp's `llama-bpe`.
LLAMA_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass
class Vocabulary:
    """Tokens with their types and, of SentencePiece, scores; merges of byte-level BPE."""

    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]


def unpack_real_files(folder: Path) -> None:
    """Take the vocabularies and templates out of the pinned archive."""
    with atomic_folder(folder) as beside:
        given = os.environ.get(ARCHIVE_VARIABLE)
        archive = Path(given) if given else download_archive(CONVERTER, beside)
        with tarfile.open(archive) as tar:
            for member in tar:
                if Path(member.name).name in (*NAMES, *TEMPLATES):
                    (beside / Path(member.name).name).write_bytes(tar.extractfile(member).read())
        if not given:
            archive.unlink()


def read_vocabulary(path: Path) -> Vocabulary:
    """Read the arrays of a vocabulary file."""
    places, data = read_header(path).places, path.read_bytes()

    def array(key: str) -> list:
        if f"tokenizer.ggml.{key}" not in places:
            return []
        cursor = Cursor(data, path)
        cursor.place = places[f"tokenizer.ggml.{key}"][0]
        cursor.text()
        cursor.skip(4)
        kind, length = cursor.number("I"), cursor.number("Q")
        return [cursor.text() if kind == TEXT else cursor.value(kind) for _ in range(length)]

    return Vocabulary(array("tokens"), array("token_type"), array("scores"), array("merges"))


def added(token: int, content: str, **flags) -> dict:
    """Return a special token's entry in tokenizer.json."""
    usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token, "content": content, **usual, **flags}


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def byte_level_tokenizer(vocab: dict[str, int], merges: list[str], special: list[dict], bos: dict) -> dict:
    """Return a tokenizer.json as Llama 3 has it: byte-level BPE with its own way to find words, BOS before the text."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": LLAMA_WORDS}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos["content"], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                bos["content"]: {"id": bos["content"], "ids": [bos["id"]], "tokens": [bos["content"]]},
            },
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "ignore_merges": True, "vocab": vocab, "merges": merges},
    }


def write_llama3_tokenizer(vocabulary: Vocabulary, folder: Path, template: str) -> None:
    """Write Llama 3's tokenizer as its repository on the hub has it."""
    pairs = list(enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)))
    special = [added(i, token) for i, (token, kind) in pairs if kind == CONTROL]
    vocab = {token: i for i, (token, kind) in pairs if kind != CONTROL}
    write_json(folder / "tokenizer.json", byte_level_tokenizer(vocab, vocabulary.merges, special, special[0]))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 131072,
        "added_tokens_decoder": {str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in special},
        "chat_template": template,
    }
    write_json(folder / "tokenizer_config.json", settings)


def merges_by_score(vocab: dict[str, int], scores: list[float]) -> list[list[str]]:
    """Return the merges of a SentencePiece BPE in the order in which they are made, the best piece first."""
    merges = []
    for piece, token in vocab.items():
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += [(-scores[token], [left, right]) for left, right in cuts]
    return [pair for _, pair in sorted(merges, key=lambda merge: merge[0])]


def write_phi3_tokenizer(vocabulary: Vocabulary, folder: Path, template: str) -> None:
    """Write Phi-3's tokenizer as the repository of Phi-3-mini-4k-instruct has it: SentencePiece with added tokens, of
    which those of the chat swallow the white space after them."""
    from sentencepiece import sentencepiece_model_pb2

    size, last = 32000, 32010
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    model = sentencepiece_model_pb2.ModelProto()
    for token, piece in enumerate(vocabulary.tokens[:size]):
        kind = {NORMAL: kinds.NORMAL, BYTE: kinds.BYTE}.get(vocabulary.types[token], kinds.CONTROL)
        kind = kinds.UNKNOWN if token == 0 else kind
        score = 0 if kind in (kinds.CONTROL, kinds.UNKNOWN) else vocabulary.scores[token]
        model.pieces.add(piece=piece, score=score, type=kind)
    model.trainer_spec.model_type, model.trainer_spec.vocab_size = 2, size
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name, model.normalizer_spec.remove_extra_whitespaces = "identity", False
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    swallowing = {2, *range(size + 1, last + 1)}
    special = [
        added(i, vocabulary.tokens[i], rstrip=i in swallowing, special=i != 2)
        for i in (0, 1, 2, *range(size, last + 1))
    ]
    vocab = {piece: token for token, piece in enumerate(vocabulary.tokens[:size])}
    normal = {p: i for p, i in vocab.items() if vocabulary.types[i] == NORMAL}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": merges_by_score(normal, vocabulary.scores),
        },
    }
    write_json(folder / "tokenizer.json", tokenizer)
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "legacy": False,
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
        "padding_side": "left",
        "added_tokens_decoder": {str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in special},
        "chat_template": template,
    }
    write_json(folder / "tokenizer_config.json", settings)
