"""Replace personal data in a record by typed placeholders; equal texts get the same placeholder."""

import hashlib
import re
from collections import Counter

from scripts.common.records import Record, content_id, images_of, texts_in
from scripts.dataset.entities import entities_json
from scripts.train.span_alignment import trimmed

REPEATED = 4  # minimum characters of a found text to be replaced everywhere in the record
EXAMPLES, EXCERPT = 5, 400


class Placeholders:
    """The placeholders of one record, from a template that may contain `{label}` and `{number}`.

    Numbers count the distinct texts of a label, ignoring white space and case; a placeholder that already occurs in the
    record's texts is skipped.
    """

    def __init__(self, template: str, texts: list[str]):
        self.template, self.texts = template, texts
        self.numbers: Counter[str] = Counter()
        self.known: dict[tuple[str, str], str] = {}

    def of(self, label: str, text: str) -> str:
        key = label, folded(text)
        while key not in self.known:
            self.numbers[label] += 1
            # `replace`, not `format`: a template may contain other braces.
            made = self.template.replace("{label}", label).replace("{number}", str(self.numbers[label]))
            if "{number}" not in self.template or not any(made in text for text in self.texts):
                self.known[key] = made
        return self.known[key]


def folded(text: str) -> str:
    """Return a text without case and with single spaces, for comparison."""
    return " ".join(text.casefold().split())


def disjoint(text: str, found: list[list]) -> list[tuple[int, int, str]]:
    """Return sorted places (start, end, label) without white space at their ends, extended to whole words.

    An error at the edge of an entity would leave part of a word, which may reveal it. Places that overlap are merged;
    the longer place gives the label.
    """
    places: list[tuple[int, int, str]] = []
    longest = 0
    for start, end, label, *_ in sorted(found, key=lambda each: (each[0], -each[1], each[2])):
        start, end = trimmed(text, start, end)
        if start == end:
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
    """Return a non-empty place extended to the words in which it begins and ends."""
    while start > 0 and in_word(text[start - 1]) and in_word(text[start]):
        start -= 1
    while end < len(text) and in_word(text[end]) and in_word(text[end - 1]):
        end += 1
    return start, end


def in_word(character: str) -> bool:
    """Return whether a character is a letter or digit of a script that separates words: Latin, Greek or Cyrillic."""
    return character.isalnum() and (character < "\u0530" or "\u1e00" <= character < "\u2000")


def repeats(text: str, places: list[tuple[int, int, str]], known: dict[str, str]) -> list[tuple[int, int, str]]:
    """Return further occurrences in a text of texts found anywhere in the record, as whole words.

    `known` maps each found text to its label; of texts that differ only in white space and case, to that of the first.
    A model reads each text separately and may miss in one what it found in another.
    """
    labels: dict[str, str] = {}
    forms: dict[str, str] = {}
    for word, label in known.items():
        if len(word) >= REPEATED:
            first = labels.setdefault(folded(word), label)
            # Both forms, because `re` ignores case changes that change the length: "Weiß" matches "WEISS" only in
            # folded form.
            forms |= {" ".join(word.split()): first, folded(word): first}
    if not forms:
        return []
    words = sorted(forms, key=lambda word: (-len(word), word))
    # A group per text identifies the match: `re` and case folding differ in what they consider equal.
    groups = "|".join("(" + r"\s+".join(map(re.escape, word.split())) + ")" for word in words)
    pattern = re.compile(rf"(?<!\w)(?:{groups})(?!\w)", re.IGNORECASE)
    added, start = [], 0
    for first, last in [*((first, last) for first, last, _ in places), (len(text), len(text))]:
        for match in pattern.finditer(text, start, first):
            added.append((match.start(), match.end(), forms[words[match.lastindex - 1]]))
        start = last
    return added


class Replaced:
    """A text with placeholders at sorted, disjoint places."""

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
        """Return spans with their offsets in the new text, without those that overlap a placeholder."""
        kept = []
        for start, end, label in spans:
            if any(start < last and first < end for first, last, _ in self.places):
                continue
            before = sum(last <= start for _, last, _ in self.places)
            growth = self.growths[before - 1] if before else 0
            kept.append([start + growth, end + growth, label])
        return kept


class Redactor:
    """Redacts records, counts replacements, and keeps the first results as examples."""

    def __init__(self, template: str):
        self.template = template
        self.entities: Counter[str] = Counter()
        self.records_of: Counter[str] = Counter()
        self.examples: list[str] = []
        self.counts: Counter[str] = Counter()

    def redact(self, record: Record, found: dict[str, list[list]]) -> Record:
        """Return the record with placeholders in all its texts; `found` are the [start, end, label, ...] of each text.

        The record's other fields (`meta`) are removed, because classifiers are not trained for single fields. Its group
        becomes one of 65,536 numbers: equal groups stay equal, but no name can be recovered. Label and origin stay. A
        record with spans keeps those that overlap no placeholder, and its answer is rebuilt from them.
        """
        texts = texts_of(record)
        placeholders = Placeholders(self.template, texts)
        places = {text: disjoint(text, found.get(text, [])) for text in texts}
        known: dict[str, str] = {}
        for text in texts:
            for start, end, label in places[text]:
                known.setdefault(text[start:end], label)
        every = {text: sorted([*places[text], *repeats(text, places[text], known)]) for text in texts}
        new = {text: Replaced(text, every[text], placeholders) for text in texts}
        labels: set[str] = set()
        for text in occurrences(record):
            replaced = [label for _, _, label in every[text]]
            labels.update(replaced)
            self.entities.update(replaced)
            self.counts["repeated"] += len(replaced) - len(places[text])
        self.records_of.update(labels)
        self.counts.update(records=1, changed=bool(labels), meta=bool(record.meta))
        self.counts["images"] += len(images_of(record.messages))
        if labels and len(self.examples) < EXAMPLES:
            example = "\n".join(new[text].text for message in spoken(record) for text in texts_in(message["content"]))
            self.examples.append(example if len(example) <= EXCERPT else example[: EXCERPT - 1] + "…")
        return self.rebuilt(record, new)

    def rebuilt(self, record: Record, new: dict[str, Replaced]) -> Record:
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
        group = record.group
        if group is not None:  # one of 65,536 names; so few that guessing cannot identify the group
            group = f"group-{hashlib.blake2b(group.encode('utf-8'), digest_size=2).hexdigest()}"
        return Record(content_id(messages, spans), messages, expected, spans, record.label, group, {}, record.origin)


def spoken(record: Record) -> list[dict]:
    """Return the messages to redact: all but system messages, which records may share."""
    messages = record.messages if record.spans is None else record.messages[:-1]
    return [message for message in messages if message["role"] != "system"]


def occurrences(record: Record) -> list[str]:
    """Return a record's texts in order, with the expected answer last unless it equals a message.

    The answer of a record with spans is not included: it is rebuilt.
    """
    messages = record.messages if record.spans is None else record.messages[:-1]
    texts = [text for message in messages for text in texts_in(message["content"])]
    other = record.spans is None and record.expected is not None and record.expected not in texts
    return [*texts, record.expected] if other else texts


def texts_of(record: Record) -> list[str]:
    """Return a record's distinct texts in order, including the expected answer."""
    return list(dict.fromkeys(occurrences(record)))


def redacted_content(content: str | list[dict], new: dict[str, Replaced]) -> str | list[dict]:
    """Return content with its texts replaced; other texts stay, because they are rebuilt later."""
    if isinstance(content, str):
        return new[content].text if content in new else content
    return [part | {"text": new[part["text"]].text} if part["type"] == "text" else part for part in content]
