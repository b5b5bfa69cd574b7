"""Runs the steps of the dataset stage as their command lines do, on small files."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.common.files import read_json, read_jsonl
from scripts.common.records import Record
from scripts.config.datasets import Dataset
from scripts.dataset import ingest_records, split_records, write_dataset_ledger
from scripts.dataset.canonical import read_rows
from scripts.dataset.make_record import RecordMaker


def settings_of(**settings) -> dict:
    """Return a dataset's complete settings as rules give them, defaults filled in by the schema."""
    given = {"files": ["raw.jsonl"], "format": "messages"} | settings
    section = Dataset.model_validate(given).model_dump(mode="json")
    return section | {"whole_files": {split: section[f"{split}_files"] for split in ("validation", "test")}}


@dataclass
class Stage:
    """The files of one dataset, and its steps."""

    folder: Path
    settings: dict
    capsys: pytest.CaptureFixture
    threads: int = 1

    def ingest(self, *raw: Path) -> int:
        """Run ingest_records, with corrections.jsonl if it is there; return its exit status."""
        corrections = self.folder / "corrections.jsonl"
        return ingest_records.main(
            [
                *map(str, raw),
                *("--settings", json.dumps(self.settings)),
                *("--name", "sample", "--threads", str(self.threads)),
                *(("--corrections", str(corrections)) if corrections.exists() else ()),
                *("--records", str(self.folder / "ingested.parquet")),
                *("--quarantine", str(self.folder / "quarantine.jsonl")),
                *("--counts", str(self.folder / "ingest.json")),
            ]
        )

    def split(self) -> int:
        """Run split_records; return its exit status."""
        named = {name: self.folder / f"{name}.jsonl" for name in ("train", "validation", "test", "duplicates")}
        named |= {"records": self.folder / "records.parquet", "facts": self.folder / "split.json"}
        named |= {"counts": self.folder / "ingest.json"}
        options = [word for name, path in named.items() for word in (f"--{name}", str(path))]
        ingested = str(self.folder / "ingested.parquet")
        options += ["--settings", json.dumps(self.settings), "--threads", str(self.threads)]
        return split_records.main([ingested, *options])

    def write_ledger(self, *more: str) -> int:
        """Run write_dataset_ledger, with more words on its command line; return its exit status."""
        named = {
            "records": "records.parquet",
            "counts": "ingest.json",
            "facts": "split.json",
            "duplicates": "duplicates.jsonl",
            "quarantine": "quarantine.jsonl",
            "json": "ledger.json",
            "html": "ledger.html",
            "images": "images/manifest.json",
        }
        options = [word for name, file in named.items() for word in (f"--{name}", str(self.folder / file))]
        settings = ["--settings", json.dumps(self.settings), "--threads", str(self.threads)]
        return write_dataset_ledger.main(["--name", "sample", *settings, *options, *more])

    def run(self, *raw: Path) -> None:
        """Run all three steps, which must succeed."""
        assert self.ingest(*raw) == 0, self.capsys.readouterr().err
        assert self.split() == 0, self.capsys.readouterr().err
        assert self.write_ledger() == 0, self.capsys.readouterr().err

    def error(self) -> str:
        """Return the error that the last step showed, from its first word on."""
        return self.capsys.readouterr().err.partition(" ERROR ")[2].strip()

    def ingested(self) -> list[dict]:
        """Return the rows of ingested.parquet."""
        return list(read_rows(self.folder / "ingested.parquet"))

    def records(self) -> list[dict]:
        """Return the rows of records.parquet."""
        return list(read_rows(self.folder / "records.parquet"))

    def lines(self, name: str) -> list[dict]:
        """Return the rows of a JSONL file."""
        return list(read_jsonl(self.folder / f"{name}.jsonl"))

    def facts(self, name: str) -> dict:
        """Return the content of a JSON file."""
        return read_json(self.folder / f"{name}.json")


def chat(question: str, answer: str, **fields) -> dict:
    """Return a raw record of the format `messages`."""
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        **fields,
    }


def made(raw: dict, **settings) -> Record:
    """Return the record of a raw one; its images keep their names."""
    return RecordMaker(settings_of(**settings), lambda messages: messages).make(raw, "raw.jsonl:1")[0]


def write_lines(path: Path, records: list[dict]) -> Path:
    """Write raw records as JSON Lines."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path
