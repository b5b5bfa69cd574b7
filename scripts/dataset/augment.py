"""Augment the training split: the same answers to prompts rephrased by templates of the configuration."""

import copy
from collections.abc import Iterator
from dataclasses import replace

from scripts.common.errors import UserError
from scripts.common.records import Record, content_id, normalised, text_of, with_text
from scripts.common.sandbox import TemplateFaultError, compiled_template, rendered


class Augmenter:
    """Makes variants of training records; `settings` is `augment` of the dataset's settings (None: no variants)."""

    def __init__(self, settings: dict | None):
        self.copies = settings["copies"] if settings else 0
        sources = settings["templates"] if settings else []
        self.templates = [
            compiled_template(source, f"augment.templates[{number}]") for number, source in enumerate(sources)
        ]

    def variants(self, record: Record) -> Iterator[Record]:
        """Yield a record's variants: a template renders the last user message; the rest, images included, is unchanged.

        The record's id decides which template comes first, so other records don't matter. Equal variants are left out.
        """
        seen = {record.id}
        for turn in range(self.copies):
            number = (int(record.id[:16], 16) + turn) % len(self.templates)
            messages = self.rephrased(record, number)
            identity = content_id(messages)
            if identity not in seen:
                meta = record.meta | {"augmented": True, "augmented_from": record.id, "augmented_by": number}
                yield replace(record, id=identity, messages=messages, meta=meta)
            seen.add(identity)

    def rephrased(self, record: Record, number: int) -> list[dict]:
        messages = copy.deepcopy(record.messages)
        place = max(i for i, message in enumerate(messages) if message["role"] == "user")
        values = record.meta | {"meta": record.meta, "user": text_of(messages[place]["content"])}
        values |= {} if record.label is None else {"label": record.label}
        try:
            content = normalised(rendered(self.templates[number], values))
        except TemplateFaultError as error:
            raise UserError(f"{record.origin}: augment.templates[{number}]: {error}") from None
        if not content:
            raise UserError(
                f"{record.origin}: augment.templates[{number}] renders an empty text", remedy="use {{ user }} in it"
            )
        messages[place]["content"] = with_text(messages[place]["content"], content)
        return messages
