"""What the vocabulary in a GGUF file must be for llama.cpp to read it and to make tokens with it.

Source: `llama_vocab::impl::load`, `byte_to_token` and `token_to_byte` in src/llama-vocab.cpp of llama.cpp. It asserts
that no token stands twice, and looks for bytes in the vocabulary without asking whether they are there.
"""

import re
from collections.abc import Iterator

from scripts.common.gguf_layout import BOOL, FLOAT32, INT32, TEXT, UINT32, Cursor, Header

PREFIX = "tokenizer.ggml."
TOKENS, TYPES, SCORES, MERGES, MODEL = (PREFIX + name for name in ("tokens", "token_type", "scores", "merges", "model"))
TEMPLATE = "tokenizer.chat_template"
SENTENCEPIECE, BYTE_LEVEL = "llama", "gpt2"
SPECIAL = (
    *("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "mask", "cls", "fim_pre", "fim_suf", "fim_mid"),
    *("fim_pad", "fim_rep", "fim_sep", "prefix", "suffix", "middle"),
)  # "seperator" is how the format spells it
FLAGS = ("add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces")
LAST_DEFAULT = {SENTENCEPIECE: 2, BYTE_LEVEL: 11}  # the highest of the ids that llama.cpp takes for BOS and EOS
BYTE_TYPE, TYPES_KNOWN = 6, range(7)
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def vocabulary_faults(header: Header, cursor: Cursor) -> Iterator[str]:
    """Yield what is wrong with the vocabulary; none is all right."""
    for key in (MODEL, PREFIX + "pre", *(key for key in header.kinds if key.startswith(TEMPLATE))):
        if key in header.kinds and key not in header.values | {TEMPLATE + "s": None}:
            yield f"{key} is a list"
        elif key in header.values and header.kinds[key] != TEXT:
            yield f"{key} is no text"
    for key in (PREFIX + flag for flag in FLAGS):
        if header.kinds.get(key, BOOL) != BOOL or key in header.arrays:
            yield f"{key} is neither true nor false"
    if TOKENS not in header.kinds:
        return
    count = header.arrays.get(TOKENS, 0)
    if not count or header.kinds[TOKENS] != TEXT:
        yield f"{TOKENS} is no list of texts"
    yield from array_faults(header, count)
    yield from special_faults(header, count)
    yield from token_faults(header, cursor)


def array_faults(header: Header, count: int) -> Iterator[str]:
    """Yield what is wrong with the lists that go along with the tokens."""
    for key, kinds in ((TYPES, (INT32,)), (SCORES, (FLOAT32, INT32))):
        if key in header.kinds and (header.arrays.get(key) != count or header.kinds[key] not in kinds):
            yield f"{key} is no list of {count} numbers, one a token"
    if MERGES in header.kinds and (MERGES not in header.arrays or header.kinds[MERGES] != TEXT):
        yield f"{MERGES} is no list of texts"


def special_faults(header: Header, count: int) -> Iterator[str]:
    """Yield the special tokens that are not in the vocabulary."""
    for name in SPECIAL:
        key = f"{PREFIX}{name}_token_id"
        if key not in header.kinds:
            continue
        if header.kinds[key] != UINT32 or key in header.arrays:
            yield f"{key} is no 32-bit number"
        elif header.values[key] >= count:
            yield f"{key} is {header.values[key]}, but there are {count} tokens"
    least = LAST_DEFAULT.get(header.values.get(MODEL), 0)
    if count <= least:
        yield f"its vocabulary has {count} tokens, fewer than the special ones that llama.cpp expects"


def token_faults(header: Header, cursor: Cursor) -> Iterator[str]:
    """Yield what is wrong with single tokens."""
    texts = (text.partition("\0")[0] for text in cursor.entry(header, TOKENS))  # where C ends a text
    tokens = [text or f"[EMPTY_{place}]" for place, text in enumerate(texts)]
    known = set(tokens)
    if len(known) < len(tokens):
        seen: set[str] = set()
        doubled = next(text for text in tokens if text in seen or seen.add(text))
        yield f"the token {doubled[:40]!r} stands in its vocabulary twice"
    for place, kind in enumerate(cursor.entry(header, TYPES) if TYPES in header.kinds else ()):
        if kind not in TYPES_KNOWN:
            yield f"token {place} has the unknown type {kind}"
        if kind == BYTE_TYPE and not BYTE.fullmatch(tokens[place]):
            yield f"token {place} is to be a byte, but is {tokens[place][:40]!r}"
    if header.values.get(MODEL) == SENTENCEPIECE:
        for byte in range(256):
            if f"<0x{byte:02X}>" not in known and (byte > 127 or chr(byte) not in known):
                yield f"its vocabulary has no token for the byte {byte}, so that it can't write every text"
