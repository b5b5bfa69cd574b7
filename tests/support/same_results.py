"""What of a workflow's results is the same each time that it is run, however and wherever that is."""

import re
from pathlib import Path

from scripts.common.checksums import is_checksum_file
from scripts.common.files import read_json, read_jsonl, sha256_of

# Keys whose values differ from time to time: when, how long, how many attempts; hashes of files that hold such values.
TIMED = re.compile(r".*(second|memory).*|energy|cost|attempts|started|ended|made_from")
TELLING_TIME = (
    ".html",
    ".svg",
    "SHA256SUMS",
    "leaderboard.csv",
    "README.md",
    "ro-crate-metadata.json",
    "verdicts.jsonl",
)


def results(folder: Path) -> dict[str, Path]:
    """Return the results that a run leaves, by path; without logs, checksum files and bytecode."""
    paths = {str(path.relative_to(folder)): path for path in sorted((folder / "results").rglob("*")) if path.is_file()}
    ignored = ("results/logs/", "results/benchmarks/")
    return {
        name: path
        for name, path in paths.items()
        if not name.startswith(ignored) and not is_checksum_file(path) and path.suffix != ".pyc"
    }


def without_time(value):
    """Return parsed JSON without what differs from time to time, the gates on seconds among it."""
    if isinstance(value, list):
        return [without_time(item) for item in value if not (isinstance(item, dict) and on_time(item))]
    if isinstance(value, dict):
        return {key: without_time(item) for key, item in value.items() if not TIMED.fullmatch(key)}
    return value


def on_time(gate: dict) -> bool:
    """Say whether a dict is a gate on how long answers take."""
    return "seconds" in str(gate.get("metric"))


def content(path: Path):
    """Return what has to be the same in each run: the bytes, or of files that tell the time what they say besides."""
    if path.suffix in (".json", ".jsonl") and path.name != "tokenizer.json":
        return without_time(read_json(path) if path.suffix == ".json" else list(read_jsonl(path)))
    return sha256_of(path)


def contents(folder: Path) -> dict:
    """Return the content of each result that does not tell the time throughout, by path."""
    return {name: content(path) for name, path in results(folder).items() if not name.endswith(TELLING_TIME)}
