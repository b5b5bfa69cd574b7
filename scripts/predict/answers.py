"""Answers are written to disk one by one, so that an interrupted step resumes."""

import hashlib
import json
from pathlib import Path

from scripts.common.files import canonical_sha256, write_jsonl
from scripts.predict.prompts import Prompt

CHECK = 16  # hex digits of a row's SHA-256 at the start of its line


def checked_line(row: bytes) -> bytes:
    """Return the line of a row: the first digits of its SHA-256, a space, and the row."""
    return hashlib.sha256(row).hexdigest()[:CHECK].encode("ascii") + b" " + row + b"\n"


class AnswerFile:
    """Rows written one by one to a partial file next to the output; `finish` writes them in order to the output.

    The name of the partial file has a fingerprint of model, prompts and settings, so that other rows are never reused.
    A row whose line is incomplete or altered is generated again. `device` is the name of the device that generates.
    """

    def __init__(self, output: Path, circumstances: dict, device: str = "cpu"):
        self.output, self.device = output, device
        self.partial = output.with_name(f".{output.name}.{canonical_sha256(circumstances)[:16]}.partial")
        self.rows: dict[tuple[str, str], dict] = {}
        output.parent.mkdir(parents=True, exist_ok=True)
        self.read_partial()

    def read_partial(self) -> None:
        """Read the rows of an earlier attempt; incomplete or altered ones are removed."""
        if not self.partial.exists():
            return
        lines = self.partial.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line == checked_line(line[CHECK + 1 : -1])]
        for line in whole:
            row = json.loads(line[CHECK:])
            self.rows[row["prompt_set"], row["id"]] = row
        if whole != lines:
            self.partial.write_bytes(b"".join(whole))

    def has(self, prompt: Prompt) -> bool:
        """Return whether the prompt has an answer."""
        return (prompt.prompt_set, prompt.id) in self.rows

    def add(self, prompt: Prompt, answer: dict) -> None:
        """Append one answer; for a question with images also as `actual`, next to the record's `expected`."""
        actual = {"actual": answer["answer"]} if prompt.has_images else {}
        row = {**prompt.to_row(), **actual, **answer, "device": self.device}
        self.rows[prompt.prompt_set, prompt.id] = row
        with open(self.partial, "ab") as file:
            file.write(checked_line(json.dumps(row, ensure_ascii=False).encode("utf-8")))

    def finish(self, prompts: list[Prompt]) -> None:
        """Write the output in the prompts' order, and remove the partial file."""
        write_jsonl(self.output, [self.rows[prompt.prompt_set, prompt.id] for prompt in prompts])
        for stale in self.output.parent.glob(f".{self.output.name}.*.partial"):
            stale.unlink()
