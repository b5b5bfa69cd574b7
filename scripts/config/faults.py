"""Turn Pydantic's errors into messages for users."""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel

# Names of our keys in other tools.
SYNONYMS = {
    "batch_size": "micro_batch",
    "ctx": "context",
    "dtype": "precision",
    "file": "files",
    "gradient_accumulation_steps": "accumulation",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "lora_r": "r",
    "lr": "learning_rate",
    "lr_scheduler_type": "scheduler",
    "max_seq_length": "max_length",
    "max_tokens": "max_new_tokens",
    "num_train_epochs": "epochs",
    "optim": "optimizer",
    "per_device_train_batch_size": "micro_batch",
    "quantizations": "quants",
    "rank": "r",
    "save_steps": "checkpoint_steps",
    "temp": "temperature",
    "use_dora": "dora",
    "use_rslora": "rslora",
    "val": "validation",
    "warmup": "warmup_ratio",
}
PATTERNS = {
    "revision": "is not a commit hash of 40 hex digits; branches and tags are refused, because they move",
    "sha256": "is not a SHA-256: give its 64 hex digits, in lower case",
    "version": "is not a version such as v1.0",
    "id": "is not a repository id such as org/name",
    "language": "is not a language tag such as en, fr or vi",
    "force": "is not a written reason, of two words or more",
}
MISSING = {
    "revision": "is missing: pin the commit hash, because branches and tags move",
    "permission": "is missing: write who allowed the collecting, when and for what; without it nothing is collected",
}
# Parts of an error's location that Pydantic adds for branches of unions and for keys of mappings.
BRANCH = re.compile(r"^(\[key\]|(list|literal|function-\w+|constrained-\w+)(\[.*\])?|str|int|float|bool)$")


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections in an annotation, including those in nested mappings, lists and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)


def section_at(root: type[BaseModel], parts: tuple) -> type[BaseModel]:
    """Return the section at this path; names of entries and positions in lists are skipped."""
    section = root
    for part in parts:
        if part in section.model_fields:
            section = next(sections_in(section.model_fields[part].annotation), section)
    return section


def paths_in(section: type[BaseModel], start: str = "") -> Iterator[str]:
    """Yield the dotted path of each key in a section and its subsections."""
    for key, field in section.model_fields.items():
        yield start + key
        for below in sections_in(field.annotation):
            yield from paths_in(below, f"{start}{key}.")


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the most similar of the words; None if none is similar."""
    return next(iter(difflib.get_close_matches(word, words, n=1)), None)


def did_you_mean(word: str | None) -> str:
    """Return `, did you mean 'x'?`, or an empty text without a word."""
    return f", did you mean '{word}'?" if word else ""


def closest(word: str, words: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the most similar word, or the list of words when none is similar."""
    return did_you_mean(nearest(word, words)) or f"; known: {', '.join(words) or 'none'}"


def known_key(place: tuple, root: type[BaseModel]) -> str | None:
    """Return the known key most similar to an unknown one: from its own section, else from another section.

    A key of another section has its full path, such as `runs.football.training.epochs`.
    """
    *parents, word = place
    keys = list(section_at(root, parents).model_fields)
    meant = SYNONYMS.get(word, word)
    if similar := meant if meant in keys else nearest(word, keys):
        return similar
    if len(place) > 2:
        entry = ".".join(map(str, place[:2]))
        return next(
            (f"{entry}.{path}" for path in paths_in(section_at(root, place[:1])) if path.rpartition(".")[2] == meant),
            None,
        )
    return None


def shown(value: Any) -> str:
    """Return a short text for a value, as in YAML."""
    kinds = {dict: "a mapping", list: "a list", type(None): "nothing", bool: str(value).lower()}
    text = kinds.get(type(value)) or (f"text '{value}'" if isinstance(value, str) else str(value))
    return text if len(text) <= 60 else text[:57] + "..."


def explanation(fault: dict, root: type[BaseModel]) -> str:
    """Return the message for one error of Pydantic's `ValidationError.errors()`."""
    kind, context, value = fault["type"], fault.get("ctx", {}), fault["input"]
    place = plain_place(fault["loc"])
    key = str(place[-1]) if place else ""
    if kind == "extra_forbidden":
        section = section_at(root, place[:-1])
        if key in section.REMOVED:
            return section.REMOVED[key]
        known = ", ".join(section.model_fields)
        return f"unknown key{did_you_mean(known_key(place, root)) or f'; known: {known}'}"
    if kind == "missing":
        return MISSING.get(key, "is missing")
    if kind == "value_error":
        return f"{shown(value)} {context['error']}" if isinstance(value, str) else str(context["error"])
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"])
        return f"{shown(value)} is not one of {', '.join(allowed)}{did_you_mean(nearest(str(value).lower(), allowed))}"
    if kind == "string_pattern_mismatch":
        rule = "must start with a letter or digit and contain only letters, digits, '.', '_' and '-'"
        return f"{shown(value)} {PATTERNS.get(key, rule)}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    message = fault["msg"].replace("dictionary", "mapping").partition(" or instance of ")[0]
    is_plain = kind == "string_type" and value is not None and not isinstance(value, dict | list)
    quote = "; put it in quotes" if is_plain or kind == "invalid_key" else ""
    return f"{message[0].lower()}{message[1:]}, got {shown(value)}{quote}"


def plain_place(place: tuple) -> tuple:
    """Return a place without Pydantic's parts for branches of unions and keys of mappings."""
    return tuple(part for part in place if isinstance(part, int) or not BRANCH.match(part))


def dotted(place: tuple) -> str:
    """Return a place as text, such as `datasets.football.checks[0].label`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
    return text or "config"


def one_per_value(faults: list[dict]) -> list[dict]:
    """Reduce the errors of a value that matches no branch of a union to one: that of a word for text."""
    found: dict[tuple, dict] = {}
    for fault in faults:
        place = plain_place(fault["loc"])
        if place not in found or not isinstance(fault["input"], str):
            found[place] = fault
    lists = {place[:-1] for place in found if place and isinstance(place[-1], int)}
    return [f for place, f in found.items() if place not in lists or f["type"] != "literal_error"]
