"""Rebuild a tokenizer from the vocabulary of a GGUF file, so that its token ids equal llama.cpp's.

Source: src/llama-vocab.cpp of llama.cpp (`llm_tokenizer_spm`, `llm_tokenizer_bpe`, `tokenizer_st_partition`).
"""

from pathlib import Path

from sentencepiece import sentencepiece_model_pb2 as proto
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from tokenizers.processors import TemplateProcessing

from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.gguf.base_pre_tokenizers import KINDS, pre_tokenizer
from scripts.gguf.reader import TOKENS, GgufFile

PREFIX, TEMPLATE = "tokenizer.ggml.", "tokenizer.chat_template"
MODEL, PRE, TYPES, SCORES, MERGES = (PREFIX + name for name in ("model", "pre", "token_type", "scores", "merges"))
SENTENCEPIECE, BYTE_LEVEL = "llama", "gpt2"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "▁"


def build_tokenizer(file: GgufFile) -> Tokenizer:
    """Return the tokenizer of a GGUF file; raises UserError for an unsupported kind."""
    check_vocabulary(file)
    kind = file.values.get(MODEL)
    if kind == SENTENCEPIECE:
        tokenizer = sentencepiece_tokenizer(file)
    elif kind == BYTE_LEVEL:
        tokenizer = byte_level_tokenizer(file)
    else:
        raise UserError(
            f"{MODEL} is '{kind}'; '{SENTENCEPIECE}' (SentencePiece) and '{BYTE_LEVEL}' (byte-level BPE) are supported",
            file.path,
        )
    add_special_tokens(tokenizer, file)
    add_ends(tokenizer, file)
    return tokenizer


def check_vocabulary(file: GgufFile) -> None:
    """Raise UserError if scores or types have another length than the tokens, a special token is out of range, or the
    chat template is not a text."""
    if not isinstance(file.values.get(TEMPLATE, ""), str):
        raise UserError(f"{TEMPLATE} is not a text", file.path)
    count = len(file.values.get(TOKENS, ()))
    for key in (TYPES, SCORES):
        if len(file.values.get(key, ())) not in (0, count):
            raise UserError(f"{key} has {len(file.values[key])} entries, but there are {count} tokens", file.path)
    for key, token in file.values.items():
        if key.startswith(PREFIX) and key.endswith("_token_id") and token not in range(count):
            raise UserError(f"{key} is {token}, but there are {count} tokens", file.path)


def vocabulary(file: GgufFile) -> dict[str, int]:
    """Return the ids of the tokens by their texts."""
    return {text: place for place, text in enumerate(file.values[TOKENS])}


def byte_level_tokenizer(file: GgufFile) -> Tokenizer:
    """Return a byte-level BPE tokenizer with the file's merges and the pre-tokenizer that it names."""
    name = file.values.get(PRE)
    if name not in KINDS:
        known = ", ".join(KINDS)
        raise UserError(f"its pre-tokenizer ({PRE}) is '{name}'; the known ones are {known}", file.path)
    ids = vocabulary(file)
    merges = [tuple(merge.split(" ", 1)) for merge in file.values.get(MERGES, [])]
    for pair in merges:
        if len(pair) != 2 or not {*pair, "".join(pair)} <= ids.keys():
            raise UserError(f"the merge '{' '.join(pair)[:60]}' is not in its vocabulary", file.path)
    tokenizer = Tokenizer(models.BPE(ids, merges, ignore_merges=KINDS[name].whole_words))
    tokenizer.pre_tokenizer = pre_tokenizer(KINDS[name])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece_tokenizer(file: GgufFile) -> Tokenizer:
    """Return a SentencePiece BPE tokenizer with byte fallback, its merges in the order of the pieces' scores.

    With `add_space_prefix` a space is added at the start of a text and after special tokens.
    """
    unknown = file.values[TOKENS][file.values.get(PREFIX + "unknown_token_id", 0)]
    pieces, merges = vocabulary(file), merges_by_score(file)
    tokenizer = Tokenizer(models.BPE(pieces, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefixes = [normalizers.Prepend(SPACE)] if prefixes_space(file) else []
    tokenizer.normalizer = normalizers.Sequence([*prefixes, normalizers.Replace(" ", SPACE)])
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", left=1)] if prefixes else [])])
    return tokenizer


def prefixes_space(file: GgufFile) -> bool:
    """Return whether llama.cpp adds a space at the start of a text; SentencePiece vocabularies do by default."""
    return file.values.get(PREFIX + "add_space_prefix", file.values[MODEL] == SENTENCEPIECE)


def merges_by_score(file: GgufFile) -> list[tuple[str, str]]:
    """Return each pair of pieces that joins to a piece, sorted by the score of the result, highest first.

    Raises UserError if all scores are equal, as some converters write them.
    """
    tokens, scores, kinds = (file.values.get(key) for key in (TOKENS, SCORES, TYPES))
    remedy = "convert the model again"
    if not scores or not kinds:
        raise UserError(f"has no {SCORES if not scores else TYPES}", file.path, remedy=remedy)
    ids = vocabulary(file)
    normal = [place for place, kind in enumerate(kinds) if kind == NORMAL and len(tokens[place]) > 1]
    if len(normal) > 1 and len({scores[place] for place in normal}) == 1:
        raise UserError(f"all of its pieces have the same score ({SCORES})", file.path, remedy=remedy)
    found = []
    for place in sorted(range(len(tokens)), key=lambda place: (-scores[place], place)):
        text = tokens[place]
        if kinds[place] in (NORMAL, USER_DEFINED):
            pairs = ((text[:cut], text[cut:]) for cut in range(1, len(text)))
            known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
            found += sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    return found


def add_special_tokens(tokenizer: Tokenizer, file: GgufFile) -> None:
    """Add the control and user-defined tokens, which are matched in texts first."""
    for text, kind in zip(file.values[TOKENS], file.values.get(TYPES, []), strict=False):
        if kind in (CONTROL, UNKNOWN):
            tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True)])
        elif kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(text, normalized=False, special=False)])


def adds(end: str, file: GgufFile) -> bool:
    """Return whether llama.cpp adds BOS or EOS to a plain text; `end` is `bos` or `eos`."""
    default = end == "bos" and (file.values[MODEL] == SENTENCEPIECE or KINDS[file.values[PRE]].adds_bos)
    return file.values.get(f"{PREFIX}add_{end}_token", default) and f"{PREFIX}{end}_token_id" in file.values


def add_ends(tokenizer: Tokenizer, file: GgufFile) -> None:
    """Make the tokenizer add BOS and EOS to plain texts as the file specifies."""
    ids = {end: file.values[f"{PREFIX}{end}_token_id"] for end in ("bos", "eos") if adds(end, file)}
    if ids:
        names = {end: file.values[TOKENS][place] for end, place in ids.items()}
        single = [*([names["bos"]] if "bos" in ids else []), "$A", *([names["eos"]] if "eos" in ids else [])]
        tokens = list({names[end]: ids[end] for end in ids}.items())
        tokenizer.post_processor = TemplateProcessing(single, None, tokens)


def tokenizer_settings(file: GgufFile) -> dict:
    """Return the content of tokenizer_config.json."""
    tokens = file.values[TOKENS]
    names = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    ids = {name: file.values.get(f"{PREFIX}{key}_token_id") for key, name in names.items()}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": tokens[place] for name, place in ids.items() if place is not None},
        "add_bos_token": adds("bos", file),
        "add_eos_token": adds("eos", file),
        "clean_up_tokenization_spaces": False,
        "model_max_length": file.of("context_length"),
    }
    if file.values[MODEL] == SENTENCEPIECE:
        settings["add_prefix_space"] = prefixes_space(file)
    return settings


def write_tokenizer(file: GgufFile, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, the chat template and, for SentencePiece, tokenizer.model."""
    build_tokenizer(file).save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", tokenizer_settings(file), part=True)
    if template := file.values.get(TEMPLATE):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    if file.values[MODEL] == SENTENCEPIECE:
        write_sentencepiece_model(file, folder / "tokenizer.model")


def write_sentencepiece_model(file: GgufFile, path: Path) -> None:
    """Write the vocabulary as a SentencePiece model, from which llama.cpp's converter reads the scores."""
    model = proto.ModelProto()
    for text, score, kind in zip(*(file.values[key] for key in (TOKENS, SCORES, TYPES)), strict=True):
        model.pieces.add(piece=text, score=score, type=kind)  # the types have the same numbers
    model.trainer_spec.model_type = proto.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(model.pieces)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = prefixes_space(file)
    model.normalizer_spec.remove_extra_whitespaces = file.values.get(PREFIX + "remove_extra_whitespaces", False)
    path.write_bytes(model.SerializeToString())
