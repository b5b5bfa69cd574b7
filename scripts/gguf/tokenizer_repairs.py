"""Repair what llama.cpp would misread of a tokenizer: the converter's input files, and the model's name.

The converter reads two things only from tokenizer_config.json: whether a space goes before text that follows a special
token (`add_prefix_space`), and which tokens are special (`added_tokens_decoder`). transformers 5 needs neither and may
leave them out when it saves a model.

Phi-3's special tokens strip the line end that its chat template writes after them (`rstrip` in tokenizer.json). GGUF
has no entry for this; llama.cpp does it for every model whose `general.name` contains "phi-3" or "phi3", and for no
other (src/llama-vocab.cpp). Therefore the name must match the tokenizer's behaviour.
"""

import json
import logging
import re
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_json

CONFIG, TOKENIZER = "tokenizer_config.json", "tokenizer.json"
PROBE = "x"
PHI3 = re.compile(r"phi-?3", re.IGNORECASE)
log = logging.getLogger(__name__)


def prefixes_space(tokenizer) -> bool:
    """Return whether a tokenizer adds a space to text after a special token, as in a chat."""
    special = tokenizer.bos_token or tokenizer.all_special_tokens[0]
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(special + PROBE, add_special_tokens=False)["input_ids"])
    return pieces[1:2] != [PROBE] and pieces[1].startswith("▁")


def misread_tokens(folder: Path, stated: dict[str, dict]) -> dict[str, dict]:
    """Return the added tokens that the converter would treat as ordinary text: those that `added_tokens_decoder` lacks
    and tokenizer.model does not mark as control symbols."""
    if not (folder / "tokenizer.model").is_file() or not (folder / TOKENIZER).is_file():
        return {}
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))

    misread = {}
    for entry in read_json(folder / TOKENIZER).get("added_tokens", []):
        token = entry.pop("id")
        known = token < pieces.vocab_size() and pieces.id_to_piece(token) == entry["content"]
        is_control = known and entry["special"] and (pieces.is_control(token) or pieces.is_unknown(token))
        if not is_control and stated.get(str(token), {}).get("content") != entry["content"]:
            misread[str(token)] = entry
    return misread


def mended_config(folder: Path, tokenizer) -> dict:
    """Return a tokenizer_config.json for the converter; log each repair."""
    if not (folder / CONFIG).is_file():
        raise UserError("has no tokenizer_config.json", folder, remedy="save the tokenizer with the model")
    config = read_json(folder / CONFIG)
    if (folder / "tokenizer.model").is_file() or config.get("add_prefix_space") is not None:
        stated, config["add_prefix_space"] = config.get("add_prefix_space", "missing"), prefixes_space(tokenizer)
        if stated != config["add_prefix_space"]:
            log.warning("repaired: add_prefix_space in %s is %s, not %s", CONFIG, stated, config["add_prefix_space"])
    stated = config.get("added_tokens_decoder", {})
    if misread := misread_tokens(folder, stated):
        names = ", ".join(entry["content"] for entry in misread.values())
        log.warning("repaired: added_tokens_decoder in %s lacks %s; taken from %s", CONFIG, names, TOKENIZER)
        config["added_tokens_decoder"] = {**stated, **misread}
    return config


def stage_folder(folder: Path, staged: Path, tokenizer) -> None:
    """Fill `staged` with links to a model folder's files and the repaired tokenizer_config.json."""
    for path in sorted(folder.resolve().iterdir()):
        if path.name != CONFIG and not path.name.startswith("."):
            (staged / path.name).symlink_to(path)
    config = mended_config(folder, tokenizer)
    (staged / CONFIG).write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")


def name_for_llama_cpp(name: str, tokenizer) -> str:
    """Return `general.name` as llama.cpp needs it: with "Phi-3" if and only if special tokens strip white space."""
    swallows = any(token.special and token.rstrip for token in tokenizer.added_tokens_decoder.values())
    if swallows == bool(PHI3.search(name)):
        return name
    changed = f"{name} (Phi-3)" if swallows else PHI3.sub("Phi 3", name)
    why = "llama.cpp strips white space after special tokens only for a name with Phi-3"
    log.warning("repaired: general.name is '%s', not '%s': %s", changed, name, why)
    return changed
