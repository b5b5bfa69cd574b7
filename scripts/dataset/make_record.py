"""Convert a raw record to a canonical record according to the dataset's configuration."""

import re
from collections import Counter
from collections.abc import Callable

from scripts.common.records import Record, normalised
from scripts.common.sandbox import TemplateFaultError, compiled_template, rendered
from scripts.dataset.canonical import record_id
from scripts.dataset.corrections import Corrections
from scripts.dataset.formats import READERS, conversation, text_column
from scripts.dataset.images import without_images
from scripts.dataset.layouts import LAYOUTS
from scripts.dataset.parts import checked_text
from scripts.dataset.raw_rows import BadRecordError, check_unicode, missing_column
from scripts.dataset.spans import resolved_spans, restated

UNKNOWN = "unknown"


class RecordMaker:
    """Makes canonical records; `images` gives messages the names of stored images (ImageStore.stored).

    Checks see a corrected record as corrected; a correction finds its record by the id that it has without one.
    """

    def __init__(
        self,
        settings: dict,
        images: Callable[[list[dict]], list[dict]] = without_images,
        corrections: Corrections | None = None,
    ):
        self.settings, self.images, self.corrections = settings, images, corrections
        self.layout, self.renamed = LAYOUTS[settings["format"]], settings["columns"]
        self.taken = {*self.renamed, *self.renamed.values()}
        self.eaten = {*self.layout.needed, *self.layout.optional}
        self.templates = {
            role: compiled_template(source, f"fields.{role}")
            for role in ("system", "user", "assistant")
            if (source := (settings["fields"] or {}).get(role))
        }
        self.span_counts = Counter() if settings["format"] == "spans" else None
        self.checks = [Check(number, check) for number, check in enumerate(settings["checks"], 1)]

    def make(
        self, raw: dict, origin: str, has_whole_characters: bool = False
    ) -> tuple[Record, list["Check"], str | None]:
        """Return the record, the checks that it violates, and its raw label. For the arguments see RawRow."""
        if not has_whole_characters:
            check_unicode(raw)
        raw_label = self.raw_text(raw, "label")
        label = self.settings["label_map"].get(raw_label, raw_label)
        group = self.raw_text(raw, "group_by")
        record = self.with_own_names(raw) if self.renamed else raw
        for name in self.layout.needed:
            if name not in record:
                advice = "add it, or name the right column under 'columns'"
                raise missing_column("missing column", self.renamed.get(name, name), raw, advice)
        if self.span_counts is not None:
            text, column = text_column(record, "text", self.renamed), self.renamed.get("spans", "spans")
            strip_numbers = self.settings["strip_span_label_numbers"]
            text, spans, span_counts = resolved_spans(
                text, record["spans"], self.settings["span_label_map"], column, strip_numbers
            )
            record = record | {"text": text, "spans": spans}
        made, violated = self.built(record, label, group, origin)
        correction, corrected = None, None
        while self.corrections and (correction := self.corrections.of(self.stored(made).id, correction)):
            corrected = self.corrections.apply(correction, self.stored(made), corrected)
            made, violated = self.built(record, label, group, origin, correction["text"])
        try:
            self.check(made, violated, label)
        except BadRecordError as fault:
            if corrected is None:
                raise
            raise BadRecordError(fault.kind, f"with its correction, {fault.detail}", fault.remedy) from None
        made = self.stored(made)
        if self.span_counts is not None:
            self.span_counts.update(span_counts)
        if corrected is not None:
            corrected["became"] = made.id
        return made, violated, raw_label

    def built(
        self, record: dict, label: str | None, group: str | None, origin: str, answer: str | None = None
    ) -> tuple[Record, list["Check"]]:
        """Return the record without an id, and the checks that it violates. `answer` replaces the raw record's own."""
        messages = self.messages(record, label, answer)
        violated = [check for check in self.checks if check.violated_by(messages[-1]["content"], label)]
        if any(check.action == "relabel" for check in violated):
            label = UNKNOWN
            messages = self.messages(record, label, answer)
        spans, meta = None, {key: value for key, value in record.items() if key not in self.eaten}
        if self.span_counts is not None:
            meta = {key: value for key, value in meta.items() if not restated(key, value)}
            spans = record["spans"]
        expected = answer or self.expected(record) or messages[-1]["content"]
        return Record("", messages, expected, spans, label, group, meta, origin), violated

    def stored(self, record: Record) -> Record:
        """Give a built record the names of its stored images and its id, unless it has them; return it."""
        if not record.id:
            record.messages = self.images(record.messages)
            record.id = record_id(record.messages, record.spans)
        return record

    def check(self, record: Record, violated: list["Check"], label: str | None) -> None:
        """Count the checks that apply to a record. Raises BadRecordError if its length or a check puts it aside."""
        self.check_length(record.messages[-1]["content"])
        for check in self.checks:
            check.records += check.applies_to(label)
        for check in violated:
            if check.action == "quarantine":
                raise BadRecordError(f"check {check.number}", check.complaint(label), "see 'checks'")

    def with_own_names(self, raw: dict) -> dict:
        """Return the record with the format's names for the columns that `columns` renames."""
        kept = {name: value for name, value in raw.items() if name not in self.taken}
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

    def messages(self, record: dict, label: str | None, answer: str | None = None) -> list[dict]:
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
        messages = conversation(messages, self.settings["system"])
        return messages if answer is None else [*messages[:-1], {"role": "assistant", "content": answer}]

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

    def applies_to(self, label: str | None) -> bool:
        """Return whether the check is for records with this label."""
        return self.label is None or label == self.label

    def violated_by(self, answer: str, label: str | None) -> bool:
        """Return whether an answer with this label violates the check."""
        if not self.applies_to(label):
            return False
        return any((pattern.search(answer) is None) == (word == "must") for word, pattern in self.patterns)

    def complaint(self, label: str | None) -> str:
        whose = "the answer" if label is None else f"the answer of a '{label}'"
        return f"{whose} " + " and ".join(f"{word} match '{pattern.pattern}'" for word, pattern in self.patterns)
