"""The prompts that every variant answers: the test split, and further prompt sets from files."""

from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.records import ROLES, Record, content_id, images_of, normalised, text_of
from scripts.predict.strategies import Strategies, with_system


@dataclass(frozen=True)
class Prompt:
    """A prompt, and its expected answer if known.

    `spans` are offsets in `text`, which a strategy may rephrase in `messages`. `meta` and `origin` are the record's.
    """

    prompt_set: str
    id: str
    messages: list[dict]
    expected: str | None
    label: str | None
    spans: list[list] | None = None
    text: str | None = None
    meta: dict | None = None
    origin: str | None = None

    def to_row(self) -> dict:
        """Return the first columns of the answer's row.

        `spans` and `text` are included only with spans, `meta` and `origin` only with images.
        """
        row = asdict(self)
        left_out = {"spans", "text"} if self.spans is None else set()
        if not self.has_images:
            left_out |= {"meta", "origin"}
        return {key: value for key, value in row.items() if key not in left_out}

    @property
    def answered(self) -> list[dict]:
        """The messages with the expected answer."""
        return [*self.messages, {"role": "assistant", "content": self.expected}]

    @property
    def has_likelihood(self) -> bool:
        """Whether the likelihood of the expected answer is computed: for the test split's records that have one."""
        return self.prompt_set == "test" and bool(self.expected)

    @property
    def has_images(self) -> bool:
        """Whether the question shows images: its answer's row is then the whole test record plus `actual`."""
        return bool(images_of(self.messages))


def asked_text(messages: list[dict]) -> str:
    """Return the text of the last user message, in which entities are found."""
    return text_of(next(message["content"] for message in reversed(messages) if message["role"] == "user"))


def test_prompts(path: Path, limit: int | None) -> list[Prompt]:
    """Return the prompts of a test split, at most `limit`: each record's messages before its last answer."""
    records = [Record.from_row(row) for row in islice(read_jsonl(path), limit)]
    prompts = []
    for record in records:
        expected = record.expected if record.expected is not None else record.answer
        text = None if record.spans is None else asked_text(record.prompt)
        own = (record.spans, text, record.meta, record.origin)
        prompts.append(Prompt("test", record.id, record.prompt, expected, record.label, *own))
    return prompts


def prompts_of_file(name: str, path: Path) -> list[Prompt]:
    """Return the prompts of a JSONL file in the `messages` format; a last assistant message is the expected answer.

    Raises UserError with file and line for a row that is not a conversation.
    """
    prompts = []
    for number, row in enumerate(read_jsonl(path), 1):
        messages = row.get("messages")
        if not isinstance(messages, list) or not messages:
            raise UserError("has no 'messages' list", path, number, 'write {"messages": [{"role": "user", ...}]}')
        for message in messages:
            known = isinstance(message, dict) and message.get("role") in ROLES
            if not known or not isinstance(message.get("content"), str):
                raise UserError("holds a message without a known role and a text", path, number)
        messages = [{"role": m["role"], "content": normalised(m["content"])} for m in messages]
        answered = messages[-1]["role"] == "assistant"
        asked = messages[:-1] if answered else messages
        if not asked or asked[-1]["role"] != "user":
            raise UserError("does not end with a user message", path, number)
        expected = messages[-1]["content"] if answered else None
        prompts.append(Prompt(name, content_id(asked), asked, expected, row.get("label")))
    if not prompts:
        raise UserError("holds no prompt", path)
    return prompts


def all_prompts(
    test: Path,
    files: dict[str, Path],
    system: str | None,
    strategies: Strategies | None = None,
    test_records: int | None = None,
) -> list[Prompt]:
    """Return the prompts of all sets, the test split first, with the system message and the strategies of the run's
    settings. `test_records` limits the test split to its first records."""
    prompts = test_prompts(test, test_records)
    for name, path in files.items():
        prompts += prompts_of_file(name, path)
    prompts = [replace(prompt, messages=with_system(prompt.messages, system)) for prompt in prompts]
    return strategies.prompts(prompts) if strategies else prompts
