"""Prompt strategies: named ways to ask the same question, compared with each other.

Another system message, another wording of the question, or examples may give the desired answers without training, or
improve those of a trained model.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.records import Record, normalised, text_of, with_text
from scripts.common.sandbox import TemplateFaultError, compiled_template, rendered

if TYPE_CHECKING:
    from scripts.predict.prompts import Prompt

PLAIN = {"system": None, "user": None, "shots": 0}


def with_system(messages: list[dict], system: str | None) -> list[dict]:
    """Return messages with the system message `system`; None keeps the present one, an empty text removes it."""
    if system is None:
        return messages
    rest = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": system}, *rest] if system else rest


def chosen_examples(records: Iterable[Record], count: int) -> list[Record]:
    """Return at most `count` records to show as examples; deterministic for the records.

    They are taken in the order of their ids (hashes) from each label in turn, most frequent label first; no two have
    the same answer, as copies of an augmented record do.
    """
    by_answer = {record.answer: record for record in sorted(records, key=lambda record: record.id, reverse=True)}
    by_label = defaultdict(list)
    for record in sorted(by_answer.values(), key=lambda record: record.id):
        by_label[record.label or ""].append(record)
    queues = [by_label[label] for label in sorted(by_label, key=lambda label: (-len(by_label[label]), label))]
    rounds = [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]
    return rounds[:count]


class Strategies:
    """The strategies of a run, and their prompts.

    `settings` may hold `strategies` (name to system, user and shots) and `strategy`, the chosen one's name; `train` is
    the source of examples. Raises UserError for an invalid template, and if there are too few examples.
    """

    def __init__(self, settings: dict, train: Path | None = None):
        self.named = {name: {**PLAIN, **entry} for name, entry in (settings.get("strategies") or {}).items()}
        self.chosen = settings.get("strategy")
        self.templates = {
            name: compiled_template(entry["user"], f"strategies.{name}.user")
            for name, entry in self.named.items()
            if entry["user"] is not None
        }
        self.records = self.read_records(train)

    def read_records(self, train: Path | None) -> list[Record]:
        """Return the examples for the strategy with the most shots; empty if no strategy has shots."""
        name = max(self.named, key=lambda name: self.named[name]["shots"], default=None)
        most = self.named[name]["shots"] if name else 0
        if not most:
            return []
        if train is None:
            raise UserError(f"strategies.{name} shows examples of the training split: add --train")
        found = chosen_examples((Record.from_row(row) for row in read_jsonl(train)), most)
        if len(found) < most:
            raise UserError(
                f"strategies.{name} shows {most} examples, the training split has {len(found)} with different answers",
                train,
                remedy="lower its 'shots'",
            )
        return found

    def user_text(self, name: str, prompt: str, label: str | None) -> str:
        """Return a user's text rendered by a strategy's template. Raises UserError if the template fails."""
        if name not in self.templates:
            return prompt
        try:
            text = normalised(rendered(self.templates[name], {"prompt": prompt, "label": label}))
        except TemplateFaultError as error:
            raise UserError(f"strategies.{name}.user: for the prompt '{prompt[:60]}': {error}") from None
        if not text:
            raise UserError(f"strategies.{name}.user: renders an empty text for the prompt '{prompt[:60]}'")
        return text

    def worded(self, name: str, messages: list[dict], label: str | None) -> list[dict]:
        """Return messages with the users' texts rendered by a strategy's template."""
        return [
            {**m, "content": with_text(m["content"], self.user_text(name, text_of(m["content"]), label))}
            if m["role"] == "user"
            else m
            for m in messages
        ]

    def examples(self, name: str) -> list[dict]:
        """Return the turns of a strategy's examples up to the last answer, without system messages, in its wording."""
        found = []
        for record in self.records[: self.named[name]["shots"]]:
            turns = record.messages[: len(record.prompt) + 1]
            found += self.worded(name, with_system(turns, ""), record.label)
        return found

    def asked_as(self, name: str, messages: list[dict], label: str | None) -> list[dict]:
        """Return the prompt of a strategy: system message, examples, then the conversation."""
        messages = self.worded(name, with_system(messages, self.named[name]["system"]), label)
        start = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
        return [*messages[:start], *self.examples(name), *messages[start:]]

    def prompts(self, prompts: list["Prompt"]) -> list["Prompt"]:
        """Return the prompts under the chosen strategy, then those of the test split under each of the others.

        Without a chosen one the prompts are unchanged. A strategy's prompts are a set with its name and the ids of the
        test split.
        """
        found = list(prompts)
        if self.chosen is not None:
            found = [replace(p, messages=self.asked_as(self.chosen, p.messages, p.label)) for p in prompts]
        for name in self.named:
            if name != self.chosen:
                found += [
                    replace(p, prompt_set=name, messages=self.asked_as(name, p.messages, p.label))
                    for p in prompts
                    if p.prompt_set == "test"
                ]
        return found
