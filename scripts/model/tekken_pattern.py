"""Mistral's Tekken tokenizers whose tokenizer.json cuts text into words by another model's pattern, mended.

Mistral Small 3.1 and others were published so (transformers warns: "incorrect regex pattern"). llama.cpp, whose check
of a tokenizer sees no difference, cuts by Tekken's own pattern, as the model was made with: "O'Donnell" is other tokens
there than in training. Both patterns are quoted from transformers (`_patch_mistral_regex`) and the published files.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from scripts.common.files import read_json, write_json

WRONG = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MODEL_TYPES = ("mistral", "mistral3", "ministral", "ministral3", "pixtral", "voxtral")
TURN = "[INST]"  # a special token of Mistral's tokenizers; a Llama tokenizer, whose pattern that is, has none
log = logging.getLogger(__name__)


def patterns(step: dict | None) -> Iterator[dict]:
    """Yield the patterns by which a pre-tokenizer of tokenizer.json splits text."""
    for inner in (step or {}).get("pretokenizers", []):
        yield from patterns(inner)
    if (step or {}).get("type") == "Split":
        yield step["pattern"]


def mend_tekken_pattern(folder: Path) -> bool:
    """Put Tekken's pattern into a model folder's tokenizer.json where it has the wrong one; say whether it had."""
    path = folder / "tokenizer.json"
    if not path.is_file() or read_json(folder / "config.json").get("model_type") not in MODEL_TYPES:
        return False
    tokenizer = read_json(path)
    special = {token["content"] for token in tokenizer.get("added_tokens", [])}
    wrong = [pattern for pattern in patterns(tokenizer.get("pre_tokenizer")) if pattern.get("Regex") == WRONG]
    if not wrong or TURN not in special:
        return False
    for pattern in wrong:
        pattern["Regex"] = TEKKEN
    write_json(path, tokenizer, part=True)
    config = folder / "tokenizer_config.json"
    settings = read_json(config) if config.is_file() else {}
    write_json(config, {**settings, "fix_mistral_regex": True}, part=True)
    log.warning("tokenizer.json cut text by a wrong pattern, which Mistral published; Tekken's is in its place now")
    return True
