"""Answers are written to disk one by one, so that an interrupted step resumes."""

import json
import os
from contextlib import suppress
from pathlib import Path

from scripts.common.files import canonical_sha256, write_jsonl
from scripts.predict.prompts import Prompt


def answer_row(text: str, prompt_tokens: int, tokens: int, ended: bool, **more) -> dict:
    """Return the columns of an answer; `ended` says whether it has an end or is cut at the limit of tokens."""
    counts = {"prompt_tokens": prompt_tokens, "tokens": tokens, "stop": "end" if ended else "length"}
    return {"answer": text, **more, **counts}


def likelihood_row(prompt: Prompt, nll: float, tokens: int) -> dict:
    """Return the columns of a likelihood: the negative log likelihood of a prompt's expected answer, in nats."""
    return {"id": prompt.id, "nll": round(nll, 6), "tokens": tokens, "characters": len(prompt.expected)}


class AnswerFile:
    """Rows written one by one to a partial file next to the output; `finish` writes them in order to the output.

    The name of the partial file has a fingerprint of model, prompts and settings, so that other rows are never reused.
    A row with an incomplete or unreadable line is generated again. `device` names the device that generates.
    """

    def __init__(self, output: Path, circumstances: dict, device: str = "cpu"):
        self.output, self.device = output, device
        self.partial = output.with_name(f".{output.name}.{canonical_sha256(circumstances)[:16]}.partial")
        self.rows: dict[tuple[str, str], dict] = {}
        output.parent.mkdir(parents=True, exist_ok=True)
        if self.partial.exists():
            lines, end, _ = self.partial.read_bytes().rpartition(b"\n")
            os.truncate(self.partial, len(lines + end))
            for line in lines.splitlines():
                with suppress(ValueError):
                    row = json.loads(line)
                    self.rows[row["prompt_set"], row["id"]] = row

    @property
    def title(self) -> str:
        """The title of the progress bar: run and variant, and `validation` for answers to that split."""
        folder = self.output.absolute().parents[1]
        run = f"{folder.parent.name} {folder.name}" if folder.name == "validation" else folder.name
        return f"predict {run} {self.output.stem}"

    def has(self, prompt: Prompt) -> bool:
        return (prompt.prompt_set, prompt.id) in self.rows

    def row(self, prompt: Prompt) -> dict:
        """Return the row of a prompt that is answered; a column that is added is written by `finish`."""
        return self.rows[prompt.prompt_set, prompt.id]

    def add(self, prompt: Prompt, answer: dict) -> None:
        """Append one answer; for a question with images also as `actual`, next to the record's `expected`."""
        actual = {"actual": answer["answer"]} if prompt.has_images else {}
        row = {**prompt.to_row(), **actual, **answer, "device": self.device}
        self.rows[prompt.prompt_set, prompt.id] = row
        with open(self.partial, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def finish(self, prompts: list[Prompt]) -> None:
        """Write the output in the prompts' order, and remove the partial file."""
        write_jsonl(self.output, [self.rows[prompt.prompt_set, prompt.id] for prompt in prompts])
        for stale in self.output.parent.glob(f".{self.output.name}.*.partial"):
            stale.unlink()
