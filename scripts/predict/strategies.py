"""Prompt strategies: named ways to put the same question, answered side by side.

A base model that chats well may fact-check instead of writing in a style; another system message, another wording of
the question, or examples of what is wanted may be all that it takes, before or after any training.
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
    """Return messages whose system message is `system`; None keeps what is there, an empty text removes it."""
    if system is None:
        return messages
    rest = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": system}, *rest] if system else rest


def chosen_examples(records: Iterable[Record], count: int) -> list[Record]:
    """Return `count` records to show as examples, the same for the same records, fewer when there are no more.

    They are taken in the order of their ids, which are hashes, from each label in turn, the most frequent one first;
    no two have the same answer, as the copies of an augmented record have.
    """
    by_answer = {record.answer: record for record in sorted(records, key=lambda record: record.id, reverse=True)}
    by_label = defaultdict(list)
    for record in sorted(by_answer.values(), key=lambda record: record.id):
        by_label[record.label or ""].append(record)
    queues = [by_label[label] for label in sorted(by_label, key=lambda label: (-len(by_label[label]), label))]
    rounds = [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]
    return rounds[:count]


class Strategies:
    """The strategies of a run: what is asked under each of them.

    `settings` may hold `strategies` (name to system, user and shots) and `strategy`, the chosen one's name; `train` is
    the training split, which examples are taken from. Raises UserError for a template that is none, and for more
    examples than there are.
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
        """Return the examples of the strategy that shows most; none where no strategy shows any."""
        name = max(self.named, key=lambda name: self.named[name]["shots"], default=None)
        most = self.named[name]["shots"] if name else 0
        if not most:
            return []
        if train is None:
            raise UserError(f"strategies.{name} shows examples of the training split, which --train has to name")
        found = chosen_examples((Record.from_row(row) for row in read_jsonl(train)), most)
        if len(found) < most:
            raise UserError(
                f"strategies.{name} shows {most} examples, the training split has {len(found)} with different answers",
                train,
                remedy="lower its 'shots'",
            )
        return found

    def user_text(self, name: str, prompt: str, label: str | None) -> str:
        """Return a user's text as a strategy words it. Raises UserError where its template fails."""
        if name not in self.templates:
            return prompt
        try:
            text = normalised(rendered(self.templates[name], {"prompt": prompt, "label": label}))
        except TemplateFaultError as error:
            raise UserError(f"strategies.{name}.user: for the prompt '{prompt[:60]}': {error}") from None
        if not text:
            raise UserError(f"strategies.{name}.user: makes an empty text of the prompt '{prompt[:60]}'")
        return text

    def worded(self, name: str, messages: list[dict], label: str | None) -> list[dict]:
        """Return messages whose users' texts are as a strategy words them."""
        return [
            {**m, "content": with_text(m["content"], self.user_text(name, text_of(m["content"]), label))}
            if m["role"] == "user"
            else m
            for m in messages
        ]

    def examples(self, name: str) -> list[dict]:
        """Return the turns of the examples that a strategy shows, users' texts as it words them."""
        return [
            message
            for record in self.records[: self.named[name]["shots"]]
            for message in self.worded(name, example_turns(record), record.label)
        ]

    def asked_as(self, name: str, messages: list[dict], label: str | None) -> list[dict]:
        """Return what a model is asked under a strategy: system message, examples, then the conversation."""
        messages = self.worded(name, with_system(messages, self.named[name]["system"]), label)
        start = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
        return [*messages[:start], *self.examples(name), *messages[start:]]

    def prompts(self, prompts: list["Prompt"]) -> list["Prompt"]:
        """Return the prompts under the chosen strategy, then those of the test split under each of the others.

        Without a chosen one the prompts stay as they are. A strategy's prompts are a set of its name, with the ids of
        the test split's.
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


def example_turns(record: Record) -> list[dict]:
    """Return the turns of a record up to its last answer, without its system message."""
    last = max(i for i, message in enumerate(record.messages) if message["role"] == "assistant")
    return [message for message in record.messages[: last + 1] if message["role"] != "system"]
