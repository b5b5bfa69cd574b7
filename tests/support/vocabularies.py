"""GGUF files that hold nothing but a vocabulary, for tests of tokenizers."""

import json
from pathlib import Path

from scripts.gguf.reader import INT32, TEXT
from tests.support.gguf_maker import Entry, Made, ends

SPECIAL = ["<|beginning|>", "<|the-end-of|>", "<|instruction|>"]


def write_byte_level_vocabulary(path: Path, name: str, texts: list[str]) -> Path:
    """Write a byte-level BPE vocabulary with a pre-tokenizer of a name.

    Its merges are learnt from whole texts, so that many of them cross the places where a pre-tokenizer cuts.
    """
    from tokenizers import Tokenizer, models, trainers
    from tokenizers.pre_tokenizers import ByteLevel

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=3000, initial_alphabet=ByteLevel.alphabet(), max_token_length=12, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [*sorted(model["vocab"], key=model["vocab"].get), *SPECIAL]
    normal = len(tokens) - len(SPECIAL)
    entries = [
        Entry("general.architecture", TEXT, "llama"),
        Entry("tokenizer.ggml.model", TEXT, "gpt2"),
        Entry("tokenizer.ggml.pre", TEXT, name),
        Entry("tokenizer.ggml.tokens", TEXT, tokens, True),
        Entry("tokenizer.ggml.token_type", INT32, [1] * normal + [3] * len(SPECIAL), True),
        Entry("tokenizer.ggml.merges", TEXT, [" ".join(merge) for merge in model["merges"]], True),
        *ends(normal, normal + 1),
    ]
    path.write_bytes(Made(entries).encoded())
    return path
