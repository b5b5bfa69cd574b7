"""Correct Mistral's Tekken tokenizers whose tokenizer.json splits text with another model's pattern.

Mistral Small 3.1 and others were published with it (transformers warns: "incorrect regex pattern"). llama.cpp does not
detect the difference and splits with Tekken's pattern, as the model was trained: "O'Donnell" has other tokens there
than in our training. Both patterns are quoted from transformers (`_patch_mistral_regex`) and the published files.
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
TURN = "[INST]"  # a token of Mistral's tokenizers; Llama's, which the wrong pattern comes from, lack it
log = logging.getLogger(__name__)


def patterns(step: dict | None) -> Iterator[dict]:
    """Yield the split patterns of a pre-tokenizer of tokenizer.json."""
    for inner in (step or {}).get("pretokenizers", []):
        yield from patterns(inner)
    if (step or {}).get("type") == "Split":
        yield step["pattern"]


def mend_tekken_pattern(folder: Path) -> bool:
    """Replace the wrong pattern in a model folder's tokenizer.json by Tekken's; return whether it was there."""
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
    log.warning("tokenizer.json had a wrong split pattern, as published by Mistral; replaced by Tekken's")
    return True
