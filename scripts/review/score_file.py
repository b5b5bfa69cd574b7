"""Read the scores of single answers from a score file, metric by metric: the file is many times larger than these."""

import json
import mmap
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.score.metrics import METRICS

ID = re.compile(rb'"([^"]*)"')
METRIC = re.compile(rb'"([^"]+)": (\[[^\]]*\])')
NONE = (0, 0)


class ScoreFile:
    """A score file, mapped into memory. score_answers.py writes each key on a line of its own."""

    def __init__(self, text: mmap.mmap):
        self.text = text
        self.language: str | None = self.value("language")
        self.own: dict[str, dict] = self.value("own_metrics") or {}

    def line(self, key: str) -> tuple[int, int]:
        """Return start and end of a key's value; (0, 0) without the key."""
        start = self.text.find(b'\n"%s": ' % key.encode())
        if start < 0:
            return NONE
        return start + len(key) + 5, self.text.find(b"\n", start + 1)

    def value(self, key: str) -> Any:
        """Return a key's value; None without the key."""
        start, end = self.line(key)
        return json.loads(self.text[start:end].rstrip(b",") or b"null")

    def parts(self) -> Iterator[tuple[str, Iterable[str], Iterable[tuple[str, list]]]]:
        """Yield (prompt set, ids, pairs of metric and values) of the test split and of each other prompt set."""
        ids = (found[1].decode() for found in ID.finditer(self.text, *self.line("ids")))
        metrics = METRIC.finditer(self.text, *self.line("per_record"))
        yield "test", ids, ((found[1].decode(), json.loads(found[2])) for found in metrics)
        for name, result in (self.value("prompt_sets") or {}).items():
            yield name, result["ids"], [(metric, values) for metric, values in result["per_record"].items() if values]

    def facts(self, metric: str) -> dict:
        """Return a metric's title and better direction."""
        entry = vars(METRICS[metric]) if metric in METRICS else self.own.get(metric, {})
        return {"title": entry.get("title", metric), "direction": entry.get("direction", "neither")}


@contextmanager
def score_file(path: Path) -> Iterator[ScoreFile]:
    """Open a score file."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        yield ScoreFile(text)
