"""The pre-tokenizers of byte-level BPE vocabularies, by their name in GGUF files (`tokenizer.ggml.pre`).

Source: `llm_tokenizer_bpe` and `llama_vocab::impl::load` in src/llama-vocab.cpp of llama.cpp. It applies the
expressions in order: each splits the pieces of the previous one, and unmatched text is a piece too. This is the
behaviour "isolated" of a Split.
"""

from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# llama.cpp's form, which ignores case for ASCII letters only.
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|"
    r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class PreTokenizerKind:
    """Expressions that are applied in turn.

    `whole_words`: a word of the vocabulary needs no merges. `adds_bos`: the default of `tokenizer.ggml.add_bos_token`.
    """

    expressions: tuple[str, ...]
    whole_words: bool = False
    adds_bos: bool = False


DIGITS = PreTokenizerKind((r"\p{N}", GPT2))
LLAMA3 = PreTokenizerKind((rf"{CONTRACTIONS}|{WORDS}|\p{{N}}{{1,3}}|{REST}",), whole_words=True, adds_bos=True)
KINDS = {
    "gpt-2": PreTokenizerKind((GPT2,)),
    "smollm": DIGITS,
    "starcoder": DIGITS,
    "refact": DIGITS,
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "qwen2": PreTokenizerKind((rf"{CONTRACTIONS}|{WORDS}|\p{{N}}|{REST}",)),
    "tekken": PreTokenizerKind((TEKKEN,), whole_words=True, adds_bos=True),
}


def pre_tokenizer(kind: PreTokenizerKind) -> PreTokenizer:
    """Return the pre-tokenizer of a kind: splits, then bytes mapped to characters."""
    cuts = [Split(Regex(expression), "isolated") for expression in kind.expressions]
    return Sequence([*cuts, ByteLevel(add_prefix_space=False, use_regex=False)])
