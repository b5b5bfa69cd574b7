"""Read, check and normalise character spans, such as those of personal data.

A raw span is [start, end, label], optionally with the covered text as a fourth item, or an object with `start`, `end`,
`label` and optionally `value` or `text`. The list may be a string with JSON or a Python literal, or an object of lists.
Offsets count characters of the raw text; the end is exclusive. Spans labelled `O` (outside) are left out.
"""

import ast
import json
import re
import unicodedata
from collections import Counter
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from scripts.common.records import normalised
from scripts.dataset.raw_rows import BadRecordError, kind_of_value

OUTSIDE = "O"
KEYS = ("start", "end", "label")
TAG = re.compile(r"[BI]-(.+)")
TAGS = re.compile(r"O|[BI]-.+")
NUMBER = re.compile(r"[_\- ]\d+$")  # at the end of a label; IPV4 does not match
MAX_LITERAL = 200_000  # characters of a Python literal; parsing takes up to 500 bytes of memory per character
SHOWN = 40  # characters of a covered text in a message
MAX_LABEL = 100
# Columns that repeat the spans in datasets with the columns `unmasked_text` and `span_labels`.
RESTATED = ("masked_text", "target_text", "privacy_mask", "tokenised_text", "mbert_text_tokens")
KEEP_ONE = "keep one of them, or drop a label by span_label_map"
LIST_ADVICE = 'write [[start, end, "LABEL"], ...]'


class Span(NamedTuple):
    """A raw span: offsets, label, the text that it should cover (None if not given), and its name in messages."""

    start: int
    end: int
    label: str
    value: str | None
    name: str


def resolved_spans(
    text: str, value: Any, label_map: dict[str, str], what: str, strip_numbers: bool = False
) -> tuple[str, list[list], Counter]:
    """Return the normalised text, its sorted spans [start, end, label], and the counts.

    `what` names the column in messages. `strip_numbers` strips the numbers of labels before they are mapped. Counted
    are the spans of each pair (raw label, label), where the label `O` means dropped, and those `outside`, `trimmed` of
    white space, and `merged_duplicates`. Raises BadRecordError for an invalid span.
    """
    counts: Counter = Counter()
    spans = []
    for number, entry in enumerate(span_list(value, what)):
        span = raw_span(entry, f"{what}[{number}]")
        name = without_number(span.label) if strip_numbers else span.label
        label = label_map.get(name, name)
        if span.label == OUTSIDE:
            counts["outside"] += 1
            continue
        counts[span.label, label] += 1
        if label == OUTSIDE:
            continue
        check_label(label, span.name)
        check_place(text, span)
        spans.append(span._replace(label=label))
    moved, resolved = moved_offsets(text, spans, counts)
    return moved, without_overlaps(moved, resolved, counts), counts


def span_list(value: Any, what: str) -> list:
    """Return the list of spans; `value` may be a string with JSON or a Python literal, empty if there are no spans."""
    if isinstance(value, str):
        if not value.strip():
            return []
        try:
            value = parsed(value)
        except ValueError as error:
            raise BadRecordError("not a list", f"'{what}' is text that {error}", LIST_ADVICE) from None
    if isinstance(value, dict) and set(value) >= set(KEYS) and all(isinstance(part, list) for part in value.values()):
        value = turned(value, what)
    if not isinstance(value, list):
        raise BadRecordError("not a list", f"'{what}' is {kind_of_value(value)}, not a list of spans", LIST_ADVICE)
    return value


def parsed(text: str) -> Any:
    """Return JSON or a Python literal with JSON types. Raises ValueError; its message continues "the text ..."."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # ValueError: not JSON, or a number of thousands of digits
        pass
    if len(text) > MAX_LITERAL:
        raise ValueError(f"is not JSON and, with {len(text)} characters, too long to be read as a Python list")
    try:
        return json.loads(json.dumps(ast.literal_eval(text.strip())))  # tuples become lists; bytes and sets are refused
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: nested too deeply
        raise ValueError("is neither JSON nor a Python list") from None


def without_number(label: str) -> str:
    """Return a label without a number at its end: FIRSTNAME for FIRSTNAME_2."""
    return NUMBER.sub("", label) or label


def turned(columns: dict[str, list], what: str) -> list[dict]:
    """Turn an object of lists, as hub datasets return it, into a list of spans."""
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise BadRecordError("not a list", f"'{what}' has lists of unequal length", LIST_ADVICE)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def raw_span(entry: Any, name: str) -> Span:
    """Return one raw span; only its structure is checked."""
    if isinstance(entry, dict):
        missing = [key for key in KEYS if key not in entry]
        if missing:
            raise BadRecordError("bad span", f"{name} has no '{missing[0]}'", "write start, end and label")
        start, end, label = (entry[key] for key in KEYS)
        value = next((entry[key] for key in ("value", "text") if entry.get(key) is not None), None)
    elif isinstance(entry, list) and len(entry) in (3, 4):
        start, end, label, value = (*entry, None)[:4]
    else:
        count = f"a list of {len(entry)}" if isinstance(entry, list) else kind_of_value(entry)
        raise BadRecordError("bad span", f"{name} is {count}, not a span", LIST_ADVICE)
    for key, offset in (("start", start), ("end", end)):
        if isinstance(offset, bool) or not isinstance(offset, int):
            shown = offset if isinstance(offset, float) else kind_of_value(offset)
            raise BadRecordError("bad offset", f"{name} has the {key} {shown}", "an offset is a whole number")
    for what, text in (("label", label), ("text", "" if value is None else value)):
        if not isinstance(text, str):
            raise BadRecordError(f"bad span {what}", f"{name} has {kind_of_value(text)} as its {what}", "write text")
    return Span(start, end, label, value, f"{name} ({shown_text(label)})")


def check_label(label: str, name: str) -> None:
    """Raise BadRecordError for a label that is empty, too long, a BIO tag, or has outer space or controls."""
    if not label.strip() or label != label.strip() or len(label) > MAX_LABEL:
        limit = f"a label has 1 to {MAX_LABEL} characters and no white space at its ends"
        raise BadRecordError("bad span label", f"{name} has an invalid label", limit)
    if any(unicodedata.category(character)[0] == "C" for character in label):
        raise BadRecordError("bad span label", f"{name} has a control character in its label", "remove it")
    if tag := TAG.fullmatch(label):
        advice = f"a span covers the whole entity: label it '{tag[1]}', or map '{label}' by span_label_map"
        raise BadRecordError("bad span label", f"{name} has a BIO tag as its label", advice)


def check_place(text: str, span: Span) -> None:
    """Raise BadRecordError for a span that is empty, inverted, not within the text, or does not cover its value."""
    place, there = f"{span.name} goes from {span.start} to {span.end}", text[span.start : span.end]
    if span.start > span.end:
        raise BadRecordError("inverted span", place, "the start comes first")
    is_outside = span.start < 0 or span.end > len(text)
    if span.value is not None and (is_outside or normalised(there) != normalised(span.value)):
        kind = "span out of range" if is_outside else "shifted span"
        detail = f"{place} and should cover '{shown_text(span.value)}', the text there is '{shown_text(there)}'"
        raise BadRecordError(kind, detail, whereabouts(text, span))
    if is_outside:
        advice = "offsets count characters, not bytes or UTF-16 units; or the text was cut"
        raise BadRecordError("span out of range", f"{place}, the text has {len(text)} characters", advice)
    if not there.strip():
        kind = "empty span" if span.start == span.end else "span of white space"
        raise BadRecordError(kind, f"{place} and covers no text", "the end is the offset after the last character")


def whereabouts(text: str, span: Span) -> str:
    """Return a remedy for offsets that do not fit the span's value: the right offsets, or the unit that they count.

    Tools count UTF-16 units (JavaScript, Java), bytes (Rust, Go), or characters before the text was composed or its
    line ends were changed.
    """
    wanted = normalised(span.value)

    def covers(form: str | bytes, width: int = 1, encoding: str = "") -> bool:
        """Return whether the offsets, in units of `width`, are within a form of the text and cover the value."""
        piece = form[width * span.start : width * span.end]
        covered = piece.decode(encoding, "replace") if encoding else piece
        return 0 <= span.start < span.end <= len(form) // width and normalised(covered) == wanted

    readings = {
        "UTF-16 units": covers(text.encode("utf-16-le"), 2, "utf-16-le"),
        "bytes of UTF-8": covers(text.encode("utf-8"), 1, "utf-8"),
        "characters of the decomposed text (NFD)": covers(unicodedata.normalize("NFD", text)),
        "characters of the composed text (NFC)": covers(unicodedata.normalize("NFC", text)),
        "a line end as two characters": covers(re.sub("\r?\n", "\r\n", text)),
        "a line end as one character": covers(text.replace("\r\n", "\n")),
        "from the first character that is not white space": covers(text.lstrip()),
    }
    if units := [unit for unit, fits in readings.items() if fits]:
        return f"the offsets count {' or '.join(units)}: count characters"
    places = [found.start() for found in re.finditer(re.escape(span.value), text)]
    if not places:
        return "that text does not occur: the text or the span was changed"
    place = min(places, key=lambda place: abs(place - span.start))
    if place == span.start:
        return f"the start is right, the end should be {place + len(span.value)}"
    far, way = abs(place - span.start), "later" if place > span.start else "earlier"
    return f"that text is {far} character{'s' * (far > 1)} {way}, from {place} to {place + len(span.value)}"


def as_composed(text: str) -> str:
    """Return text in NFC with Unix line ends, as `normalised` does, but without stripping."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def moved_offsets(text: str, spans: list[Span], counts: Counter) -> tuple[str, list[Span]]:
    """Return the normalised text, and the spans with their offsets in it, trimmed of white space.

    The text is split at all offsets and each piece is normalised. If the pieces joined equal the whole text normalised,
    the lengths of the pieces give the new offsets. Otherwise an offset lies within what becomes one character (a letter
    and its accent, or a line end of two characters), and BadRecordError is raised.
    """
    cuts = sorted({0, len(text), *(place for span in spans for place in (span.start, span.end))})
    pieces = [as_composed(text[a:b]) for a, b in pairwise(cuts)]
    whole = as_composed(text)
    if "".join(pieces) != whole:
        wrong = (cut for cut in cuts if as_composed(text[:cut]) + as_composed(text[cut:]) != whole)
        place = next(wrong, cuts[1])
        span = next(span for span in spans if place in (span.start, span.end))
        codes = " ".join(f"U+{ord(character):04X}" for character in text[max(place - 1, 0) : place + 1])
        verb = "starts" if span.start == place else "ends"
        detail = f"{span.name} {verb} at {place}, within what normalisation makes one character ({codes})"
        raise BadRecordError("span cuts a character", detail, "move the offset before or after it")
    places = dict(zip(cuts, accumulate(map(len, pieces), initial=0), strict=True))
    lead = len(whole) - len(whole.lstrip())
    moved = []
    for span in spans:
        start, covered = places[span.start], whole[places[span.start] : places[span.end]]
        counts["trimmed"] += covered != covered.strip()
        start += len(covered) - len(covered.lstrip()) - lead
        moved.append(span._replace(start=start, end=start + len(covered.strip())))
    return whole.strip(), moved


def without_overlaps(text: str, spans: list[Span], counts: Counter) -> list[list]:
    """Return the sorted spans without repetitions. Raises BadRecordError if spans overlap."""
    spans = sorted(spans, key=lambda span: (span.start, -span.end, span.label))
    kept: list[Span] = []
    for span in spans:
        last = kept[-1] if kept else None
        if last is None or span.start >= last.end:
            kept.append(span)
        elif span[:3] == last[:3]:
            counts["merged_duplicates"] += 1
        elif span[:2] == last[:2]:
            detail = f"{last.name} and {span.name} cover the same '{shown_text(text[span.start : span.end])}'"
            raise BadRecordError("overlapping spans", detail, f"each text has one label: {KEEP_ONE}")
        else:
            how = "lies within" if span.end <= last.end else "crosses"
            covers = f"'{shown_text(text[span.start : span.end])}' {how} '{shown_text(text[last.start : last.end])}'"
            detail = f"{span.name} and {last.name} overlap: {covers}"
            raise BadRecordError("overlapping spans", detail, KEEP_ONE)
    return [[span.start, span.end, span.label] for span in kept]


def shown_text(text: str) -> str:
    """Return the start of a text for a message, on one line."""
    line = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def restated(name: str, value: Any) -> bool:
    """Return whether a column of a record only repeats its spans: masked text, or one BIO tag for each token."""
    if name in RESTATED:
        return True
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = parsed(value)
        except ValueError:
            return False
    return bool(value and isinstance(value, list)) and all(
        isinstance(tag, str) and TAGS.fullmatch(tag) for tag in value
    )
