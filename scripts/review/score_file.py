"""Read the scores of single answers from a score file, metric by metric: the file is many times larger than these."""

import json
import mmap
import re
from collections.abc import Iterable, Iterator
from typing import Any

from scripts.score.metrics import METRICS

ID = re.compile(rb'"([^"]*)"')
METRIC = re.compile(rb'"([^"]+)": (\[[^\]]*\])')


def place_of(text: mmap.mmap, key: str) -> tuple[int, int]:
    """Return start and end of a key's value; (0, 0) without the key. score_answers.py writes a line for each key."""
    begin = b'\n"%s": ' % key.encode()
    # The last key is searched from the end: the statistics before it are by far the longest line.
    start = text.rfind(begin) if key == "prompt_sets" else text.find(begin)
    return (start + len(begin), text.find(b"\n", start + 1)) if start >= 0 else (0, 0)


def value_of(text: mmap.mmap, key: str) -> Any:
    """Return a key's value; None without the key."""
    start, end = place_of(text, key)
    return json.loads(text[start:end].rstrip(b",") or b"null")


def parts_of(text: mmap.mmap) -> Iterator[tuple[str, Iterable[str], Iterable[tuple[str, list]]]]:
    """Yield (prompt set, ids, pairs of metric and values) of the test split and of each other prompt set."""
    metrics = METRIC.finditer(text, *place_of(text, "per_record"))
    ids = (found[1].decode() for found in ID.finditer(text, *place_of(text, "ids")))
    yield "test", ids, ((found[1].decode(), json.loads(found[2])) for found in metrics)
    for name, result in (value_of(text, "prompt_sets") or {}).items():
        yield name, result["ids"], [(metric, values) for metric, values in result["per_record"].items() if values]


def facts_of(text: mmap.mmap, metric: str) -> dict:
    """Return a metric's title and better direction."""
    own = (value_of(text, "own_metrics") or {}).get(metric, {"title": metric, "direction": "neither"})
    entry = vars(METRICS[metric]) if metric in METRICS else own
    return {"title": entry["title"], "direction": entry["direction"]}
