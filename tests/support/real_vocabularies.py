"""The vocabularies of Llama 3 and Phi-3, as llama.cpp keeps them for its own tests, and chat templates of real models.

They come with the pinned source archive that the converter is taken from. The models' weights are not needed to see
whether tokenizers and templates survive the way to GGUF.
"""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from scripts.common.files import atomic_folder, read_json
from scripts.gguf.base_tokenizer import SCORES, TYPES, write_tokenizer
from scripts.gguf.reader import TOKENS, read_gguf

NAMES = ("ggml-vocab-llama-bpe.gguf", "ggml-vocab-phi-3.gguf")
TEMPLATES = (
    "meta-llama-Llama-3.1-8B-Instruct.jinja",
    "meta-llama-Llama-3.2-3B-Instruct.jinja",
    "Mistral-Small-3.2-24B-Instruct-2506.jinja",
)
PHI3_PIECES, PHI3_TOKENS = 32000, 32011  # of tokenizer.model, and with the added tokens


def is_named(file: str) -> bool:
    """Tell whether a file is one of the vocabularies and templates."""
    return file in (*NAMES, *TEMPLATES)


def unpack_real_files(archive: Path, folder: Path, is_wanted: Callable[[str], object] = is_named) -> None:
    """Take files out of the pinned archive, by their names without folders."""
    with atomic_folder(folder) as beside, tarfile.open(archive) as tar:
        for member in tar:
            if is_wanted(Path(member.name).name):
                (beside / Path(member.name).name).write_bytes(tar.extractfile(member).read())


def write_phi3_tokenizer(path: Path, folder: Path, template: str) -> None:
    """Write Phi-3's tokenizer as the repository of Phi-3-mini-4k-instruct has it: SentencePiece with added tokens, of
    which those of the chat swallow the white space after them."""
    file = read_gguf(path)
    texts = file.values[TOKENS]
    kept = {key: value for key, value in file.values.items() if not key.endswith(("_token_id", "chat_template"))}
    file.values = kept | {key: file.values[key][:PHI3_PIECES] for key in (TOKENS, TYPES, SCORES)}
    write_tokenizer(file, folder)
    swallowing = {2, *range(PHI3_PIECES + 1, PHI3_TOKENS)}
    flags = {"single_word": False, "lstrip": False, "normalized": False}
    special = [
        {"id": i, "content": texts[i], **flags, "rstrip": i in swallowing, "special": i != 2}
        for i in (0, 1, 2, *range(PHI3_PIECES, PHI3_TOKENS))
    ]
    tokenizer = read_json(folder / "tokenizer.json") | {"added_tokens": special, "post_processor": None}
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
    for name, content in {"tokenizer.json": tokenizer, "tokenizer_config.json": settings}.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
