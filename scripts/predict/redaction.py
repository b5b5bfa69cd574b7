"""Personal data of a record replaced by typed placeholders: the same text is the same placeholder all through it."""

import hashlib
import re
from collections import Counter

from scripts.common.entities import entities_json
from scripts.common.records import Record, content_id, images_of

REPEATED = 4  # characters from which a found text is replaced wherever else it stands in the record
EXAMPLES, EXCERPT = 5, 400


class Placeholders:
    """The placeholders of one record, by a template that may hold `{label}` and `{number}`.

    Numbers count the different texts of a label, white space and case aside; one whose placeholder already stands in
    the record's own texts is left out.
    """

    def __init__(self, template: str, texts: list[str]):
        self.template, self.texts = template, texts
        self.numbers: Counter[str] = Counter()
        self.known: dict[tuple[str, str], str] = {}

    def of(self, label: str, text: str) -> str:
        """Return the placeholder of a text."""
        key = label, folded(text)
        if key not in self.known:
            self.known[key] = self.next(label)
        return self.known[key]

    def next(self, label: str) -> str:
        """Return a label's next placeholder."""
        while True:
            self.numbers[label] += 1
            # `replace`, not `format`: a template is free text, and its other braces mean nothing.
            made = self.template.replace("{label}", label).replace("{number}", str(self.numbers[label]))
            if "{number}" not in self.template or not any(made in text for text in self.texts):
                return made


def folded(text: str) -> str:
    """Return a text by which it is told from others: white space and case aside."""
    return " ".join(text.casefold().split())


def disjoint(text: str, found: list[list]) -> list[tuple[int, int, str]]:
    """Return places (start, end, label) in order that cover whole words; overlapping ones become one.

    A classifier that errs at the edge of an entity leaves a piece of a word, which may say enough. So places grow to
    the words that they touch, and are joined rather than dropped where they then overlap; the longer finding gives the
    label. White space at the ends of a finding is none of it.
    """
    places: list[tuple[int, int, str]] = []
    longest = 0
    for start, end, label, *_ in sorted(found, key=lambda each: (each[0], -each[1], each[2])):
        covered = text[start:end]
        start += len(covered) - len(covered.lstrip())
        end -= len(covered) - len(covered.rstrip())
        if start >= end:
            continue
        length = end - start
        start, end = whole_words(text, start, end)
        if places and start < places[-1][1]:
            first, last, name = places[-1]
            name, longest = (label, length) if length > longest else (name, longest)
            places[-1] = first, max(last, end), name
        else:
            places.append((start, end, label))
            longest = length
    return places


def whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a place that is not empty, grown to the words in which it begins and ends."""
    while start > 0 and in_word(text[start - 1]) and in_word(text[start]):
        start -= 1
    while end < len(text) and in_word(text[end]) and in_word(text[end - 1]):
        end += 1
    return start, end


def in_word(character: str) -> bool:
    """Return whether a character is a letter or a digit of a script that parts words: Latin, Greek or Cyrillic."""
    return character.isalnum() and (character < "\u0530" or "\u1e00" <= character < "\u2000")


def repeats(text: str, places: list[tuple[int, int, str]], known: dict[str, str]) -> list[tuple[int, int, str]]:
    """Return where else in a text something stands that was found elsewhere in the record, as whole words.

    `known` is the label of each text that was found, the first one's where several differ in white space and case only.
    A model sees each text for itself and may miss in one what it found in another.
    """
    labels: dict[str, str] = {}
    forms: dict[str, str] = {}
    for word, label in known.items():
        if len(word) >= REPEATED:
            first = labels.setdefault(folded(word), label)
            # Both forms, for `re` knows no case that changes the length: "Weiß" finds "WEISS" by its folded form only.
            forms |= {" ".join(word.split()): first, folded(word): first}
    if not forms:
        return []
    words = sorted(forms, key=lambda word: (-len(word), word))
    # A group for each tells which one it was: not all that `re` takes as the same but for case is that when folded.
    groups = "|".join("(" + r"\s+".join(map(re.escape, word.split())) + ")" for word in words)
    pattern = re.compile(rf"(?<!\w)(?:{groups})(?!\w)", re.IGNORECASE)
    added, start = [], 0
    for first, last in [*((first, last) for first, last, _ in places), (len(text), len(text))]:
        for match in pattern.finditer(text, start, first):
            added.append((match.start(), match.end(), forms[words[match.lastindex - 1]]))
        start = last
    return added


class Replaced:
    """A text with placeholders at places that are in order and do not overlap."""

    def __init__(self, text: str, places: list[tuple[int, int, str]], placeholders: Placeholders):
        self.places = places
        self.growths: list[int] = []
        parts, end, growth = [], 0, 0
        for first, last, label in places:
            placeholder = placeholders.of(label, text[first:last])
            parts += [text[end:first], placeholder]
            end, growth = last, growth + len(placeholder) - (last - first)
            self.growths.append(growth)
        self.text = "".join([*parts, text[end:]])

    def moved(self, spans: list[list]) -> list[list]:
        """Return spans of the text at their places in the new one, without those that a placeholder touches."""
        kept = []
        for start, end, label in spans:
            if any(start < last and first < end for first, last, _ in self.places):
                continue
            before = sum(last <= start for _, last, _ in self.places)
            growth = self.growths[before - 1] if before else 0
            kept.append([start + growth, end + growth, label])
        return kept


class Redactor:
    """Redacts records, counts what it did, and keeps the first results as examples."""

    def __init__(self, template: str):
        self.template = template
        self.entities: Counter[str] = Counter()
        self.records_of: Counter[str] = Counter()
        self.examples: list[str] = []
        self.counts = Counter(
            dict.fromkeys(("records", "changed", "repeated", "spans_moved", "spans_dropped", "meta", "images"), 0)
        )

    def redact(self, record: Record, found: dict[str, list[list]]) -> Record:
        """Return the record with placeholders in all its texts; `found` are the [start, end, label, ...] of each text.

        The record's fields beside its messages go (`meta`), for no classifier is made for a field on its own; its group
        becomes the number of one of 65,536 classes: equal groups stay equal, and no name can be read from it. Label
        and origin stay. A record with spans keeps those that no placeholder touches, and its answer is made of them.
        """
        texts = texts_of(record)
        placeholders = Placeholders(self.template, texts)
        places = {text: disjoint(text, found.get(text, [])) for text in texts}
        known: dict[str, str] = {}
        for text in texts:
            for start, end, label in places[text]:
                known.setdefault(text[start:end], label)
        new: dict[str, Replaced] = {}
        labels: set[str] = set()
        for text in texts:
            more = repeats(text, places[text], known)
            new[text] = Replaced(text, sorted([*places[text], *more]), placeholders)
        for text in occurrences(record):
            labels |= {label for _, _, label in new[text].places}
            self.entities.update(label for _, _, label in new[text].places)
            self.counts["repeated"] += len(new[text].places) - len(places[text])
        self.records_of.update(labels)
        self.counts.update(records=1, changed=bool(labels), meta=bool(record.meta))
        self.counts["images"] += len(images_of(record.messages))
        if labels and len(self.examples) < EXAMPLES:
            example = "\n".join(new[text].text for message in spoken(record) for text in texts_in(message))
            self.examples.append(example if len(example) <= EXCERPT else example[: EXCERPT - 1] + "…")
        return self.rebuilt(record, new)

    def rebuilt(self, record: Record, new: dict[str, Replaced]) -> Record:
        """Return a record of the new texts."""
        messages = [{**message, "content": redacted_content(message["content"], new)} for message in record.messages]
        spans, expected = None, None
        if record.spans is not None:
            asked = record.messages[-2]["content"]
            spans = new[asked].moved(record.spans)
            self.counts.update(spans_moved=len(spans), spans_dropped=len(record.spans) - len(spans))
            expected = entities_json(new[asked].text, spans)
            messages[-1]["content"] = expected
        elif record.expected is not None:
            expected = new[record.expected].text
        group = None if record.group is None else group_class(record.group)
        return Record(content_id(messages, spans), messages, expected, spans, record.label, group, {}, record.origin)


def spoken(record: Record) -> list[dict]:
    """Return the messages that are looked at, without the system's, which all records may share."""
    messages = record.messages if record.spans is None else record.messages[:-1]
    return [message for message in messages if message["role"] != "system"]


def has_parts(message: dict) -> bool:
    """Return whether a message's content is a list of parts."""
    return not isinstance(message["content"], str)


def texts_in(message: dict) -> list[str]:
    """Return the texts of a message: its content, or its text parts."""
    if not has_parts(message):
        return [message["content"]]
    return [part["text"] for part in message["content"] if part["type"] == "text"]


def occurrences(record: Record) -> list[str]:
    """Return a record's texts in order, the expected answer last where no message is that.

    The answer of a record with spans is made anew and is none of them.
    """
    messages = record.messages if record.spans is None else record.messages[:-1]
    texts = [text for message in messages for text in texts_in(message)]
    other = record.spans is None and record.expected is not None and record.expected not in texts
    return [*texts, record.expected] if other else texts


def texts_of(record: Record) -> list[str]:
    """Return a record's different texts in order, the expected answer among them."""
    return list(dict.fromkeys(occurrences(record)))


def redacted_content(content: str | list[dict], new: dict[str, Replaced]) -> str | list[dict]:
    """Return a content with its texts replaced; a text that was not looked at stays, for it is made anew."""
    if isinstance(content, str):
        return new[content].text if content in new else content
    return [part | {"text": new[part["text"]].text} if part["type"] == "text" else part for part in content]


def group_class(group: str) -> str:
    """Return one of 65,536 names for a group: so few that many possible groups share each, whatever one tries."""
    return f"group-{hashlib.blake2b(group.encode('utf-8'), digest_size=2).hexdigest()}"
