"""Convert a raw record to a canonical record according to the dataset's configuration."""

import json
import re
from collections import Counter
from collections.abc import Callable

from scripts.common.records import Record, content_id, normalised
from scripts.common.sandbox import TemplateFaultError, compiled_template, rendered
from scripts.dataset.formats import READERS, conversation, text_column
from scripts.dataset.images import without_images
from scripts.dataset.layouts import LAYOUTS
from scripts.dataset.parts import checked_text
from scripts.dataset.raw_rows import BadRecordError, missing_column, plain
from scripts.dataset.spans import resolved_spans, restated

UNKNOWN = "unknown"


class RecordMaker:
    """Makes canonical records; `images` gives messages the names of stored images (ImageStore.stored)."""

    def __init__(self, settings: dict, images: Callable[[list[dict]], list[dict]] = without_images):
        self.settings, self.images = settings, images
        self.layout, self.renamed = LAYOUTS[settings["format"]], settings["columns"]
        self.templates = {
            role: compiled_template(source, f"fields.{role}")
            for role in ("system", "user", "assistant")
            if (source := (settings["fields"] or {}).get(role))
        }
        self.span_counts = Counter() if settings["format"] == "spans" else None
        self.checks = [Check(number, check) for number, check in enumerate(settings["checks"], 1)]

    def make(self, raw: dict, origin: str) -> tuple[Record, list["Check"], str | None]:
        """Return the record, the checks that it violates, and its raw label."""
        raw = plain(raw)
        check_unicode(raw)
        raw_label = self.raw_text(raw, "label")
        label = self.settings["label_map"].get(raw_label, raw_label)
        group = self.raw_text(raw, "group_by")
        record = self.with_own_names(raw)
        for name in self.layout.needed:
            if name not in record:
                advice = "add it, or name the right column under 'columns'"
                raise missing_column("missing column", self.renamed.get(name, name), raw, advice)
        if self.span_counts is not None:
            text, column = text_column(record, "text", self.renamed), self.renamed.get("spans", "spans")
            strip_numbers = self.settings["strip_span_label_numbers"]
            record["text"], record["spans"], span_counts = resolved_spans(
                text, record["spans"], self.settings["span_label_map"], column, strip_numbers
            )
        messages = self.messages(record, label)
        self.check_length(messages[-1]["content"])
        violated = [check for check in self.checks if check.violated_by(messages[-1]["content"], label)]
        for check in violated:
            if check.action == "quarantine":
                raise BadRecordError(f"check {check.number}", check.complaint(label), "see 'checks'")
        if any(check.action == "relabel" for check in violated):
            label = UNKNOWN
            messages = self.messages(record, label)
        messages = self.images(messages)
        eaten, spans = (*self.layout.needed, *self.layout.optional), None
        meta = {key: value for key, value in record.items() if key not in eaten}
        if self.span_counts is not None:
            meta = {key: value for key, value in meta.items() if not restated(key, value)}
            self.span_counts.update(span_counts)
            spans = record["spans"]
        made = Record(
            id=content_id(messages, spans),
            messages=messages,
            expected=self.expected(record) or messages[-1]["content"],
            spans=spans,
            label=label,
            group=group,
            meta=meta,
            origin=origin,
        )
        return made, violated, raw_label

    def with_own_names(self, raw: dict) -> dict:
        """Return the record with the format's names for the columns that `columns` renames."""
        taken = {*self.renamed, *self.renamed.values()}
        kept = {name: value for name, value in raw.items() if name not in taken}
        return kept | {own: raw[name] for own, name in self.renamed.items() if name in raw}

    def raw_text(self, raw: dict, key: str) -> str | None:
        """Return the label or group of a raw record as text; None if the settings name no column for it."""
        name = self.settings[key]
        if name is None:
            return None
        advice = f"'{key}' requires it in every record"
        if name not in raw:
            raise missing_column(f"no {key}", name, raw, advice)
        value = raw[name]
        text = normalised(str(value).lower() if isinstance(value, bool) else str(value))
        if not text or value is None or isinstance(value, list | dict):
            raise BadRecordError(f"no {key}", f"has an empty '{name}'", advice)
        return text

    def messages(self, record: dict, label: str | None) -> list[dict]:
        if self.templates:
            values = record | ({} if label is None else {"label": label})
            try:
                contents = {role: rendered(template, values) for role, template in self.templates.items()}
            except TemplateFaultError as fault:
                raise BadRecordError(fault.kind, fault.detail, fault.remedy) from None
            texts = {role: text for role, text in contents.items() if role != "system" or text.strip()}
            messages = [{"role": role, "content": text} for role, text in texts.items()]
        else:
            reader = READERS[self.settings["format"]]
            messages, expected = reader(record, self.renamed), self.expected(record)
            if expected is not None and messages and messages[-1]["role"] == "user":
                messages.append({"role": "assistant", "content": expected})
        return conversation(messages, self.settings["system"])

    def expected(self, record: dict) -> str | None:
        """Return the expected answer from its own column; None if there is none."""
        if "expected" not in self.layout.optional or record.get("expected") is None:
            return None
        return normalised(checked_text(record["expected"], f"'{self.renamed.get('expected', 'expected')}'")) or None

    def check_length(self, answer: str) -> None:
        least, most = self.settings["min_characters"], self.settings["max_characters"]
        if len(answer) < least or (most is not None and len(answer) > most):
            kind, limit = (
                ("short", f"min_characters is {least}")
                if len(answer) < least
                else ("long", f"max_characters is {most}")
            )
            raise BadRecordError(f"answer too {kind}", f"the answer has {len(answer)} characters", limit)


class Check:
    """One check of the configuration: patterns that the answers of a label must, or must not, match."""

    def __init__(self, number: int, check: dict):
        self.number, self.label, self.action = number, check["label"], check["on_violation"]
        self.records = 0
        self.patterns = [
            (word, re.compile(check[key]))
            for key, word in (("must_match", "must"), ("must_not_match", "must not"))
            if check[key] is not None
        ]

    def violated_by(self, answer: str, label: str | None) -> bool:
        """Return whether an answer with this label violates the check; count the record if the check applies to it."""
        if self.label is not None and label != self.label:
            return False
        self.records += 1
        return any((pattern.search(answer) is None) == (word == "must") for word, pattern in self.patterns)

    def complaint(self, label: str | None) -> str:
        whose = "the answer" if label is None else f"the answer of a '{label}'"
        return f"{whose} " + " and ".join(f"{word} match '{pattern.pattern}'" for word, pattern in self.patterns)


def check_unicode(raw: dict) -> None:
    """Raise BadRecordError for halves of surrogate pairs, which JSON can escape but UTF-8 can't encode."""
    try:
        json.dumps(raw, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        what = f"holds \\u{ord(error.object[error.start]):04x}, half of a character"
        raise BadRecordError("broken Unicode", what, "write the whole character") from None
