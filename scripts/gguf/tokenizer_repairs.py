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


def added_tokens(folder: Path) -> dict[str, dict]:
    """Return the added tokens of tokenizer.json by id, as in `added_tokens_decoder`; empty without that file."""
    if not (folder / TOKENIZER).is_file():
        return {}
    entries = read_json(folder / TOKENIZER).get("added_tokens", [])
    return {str(entry["id"]): {key: value for key, value in entry.items() if key != "id"} for entry in entries}


def misread_tokens(folder: Path, stated: dict[str, dict]) -> dict[str, dict]:
    """Return the added tokens that the converter would treat as ordinary text: those that `added_tokens_decoder` lacks
    and tokenizer.model does not mark as control symbols."""
    if not (folder / "tokenizer.model").is_file():
        return {}
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))

    def is_right(token: int, entry: dict) -> bool:
        if stated.get(str(token), {}).get("content") == entry["content"]:
            return True
        known = token < pieces.vocab_size() and pieces.id_to_piece(token) == entry["content"]
        return known and entry["special"] and (pieces.is_control(token) or pieces.is_unknown(token))

    return {token: entry for token, entry in added_tokens(folder).items() if not is_right(int(token), entry)}


def mended_config(folder: Path, tokenizer) -> tuple[dict, list[str]]:
    """Return a tokenizer_config.json for the converter, and a line for each repair."""
    if not (folder / CONFIG).is_file():
        raise UserError("has no tokenizer_config.json", folder, remedy="save the tokenizer with the model")
    config, repairs = read_json(folder / CONFIG), []
    if (folder / "tokenizer.model").is_file() or config.get("add_prefix_space") is not None:
        prefix = prefixes_space(tokenizer)
        if config.get("add_prefix_space") != prefix:
            stated = config.get("add_prefix_space", "missing")
            repairs.append(f"add_prefix_space in {CONFIG} is {stated}; the tokenizer behaves as {prefix}")
            config["add_prefix_space"] = prefix
    misread = misread_tokens(folder, config.get("added_tokens_decoder", {}))
    if misread:
        names = ", ".join(entry["content"] for entry in misread.values())
        repairs.append(f"added_tokens_decoder in {CONFIG} lacks {names}; taken from {TOKENIZER}")
        config["added_tokens_decoder"] = {**config.get("added_tokens_decoder", {}), **misread}
    return config, repairs


def stage_folder(folder: Path, staged: Path, tokenizer) -> list[str]:
    """Fill `staged` with links to a model folder's files and the repaired tokenizer_config.json; return the repairs."""
    config, repairs = mended_config(folder, tokenizer)
    for path in sorted(folder.resolve().iterdir()):
        if path.name != CONFIG and not path.name.startswith("."):
            (staged / path.name).symlink_to(path)
    (staged / CONFIG).write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")
    for repair in repairs:
        log.warning("mended: %s", repair)
    return repairs


def name_for_llama_cpp(name: str, tokenizer) -> tuple[str, str | None]:
    """Return `general.name` as llama.cpp needs it, and a line on the change, if any."""
    swallows = any(token.special and token.rstrip for token in tokenizer.added_tokens_decoder.values())
    if swallows == bool(PHI3.search(name)):
        return name, None
    if swallows:
        reason = "the special tokens strip white space after them, which llama.cpp does only for this name"
        changed = f"{name} (Phi-3)"
    else:
        reason = "for a name with Phi-3 llama.cpp strips white space after special tokens, but this tokenizer does not"
        changed = PHI3.sub("Phi 3", name)
    return changed, f"general.name is '{changed}', not '{name}': {reason}"
