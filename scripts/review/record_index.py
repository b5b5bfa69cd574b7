"""An SQLite index of the records in some JSONL files: their places in the files, filters, scores and full text.

Texts are not stored; they are read from the files at their places. So memory barely grows with the number of records.
"""

import json
import math
import sqlite3
import unicodedata
import weakref
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import regex

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.terminal import Progress, warn
from scripts.review.rows import Row, row_of
from scripts.review.score_file import facts_of, parts_of, value_of
from scripts.score.entity_rows import SPACELESS

SCHEMA = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE records (
        key INTEGER PRIMARY KEY, id TEXT, label TEXT, variant TEXT, prompt_set TEXT, is_error INTEGER,
        file INTEGER, start INTEGER, size INTEGER
    );
    CREATE TABLE scores (metric INTEGER, key INTEGER, value REAL, PRIMARY KEY (metric, key)) WITHOUT ROWID;
    CREATE VIRTUAL TABLE words USING fts5(
        written, plain, content = '', tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N* Co'"
    );
"""
# A further record with the same id gets a number, as in the splits, so that each has an address.
NUMBER_REPEATED = """
    UPDATE records SET id = id || '-' || place FROM (
        SELECT key AS again, row_number() OVER (PARTITION BY id, variant, prompt_set ORDER BY key) AS place FROM records
    ) WHERE key = again AND place > 1
"""
BATCH = 1000  # records that are written at a time
FAULTS = 10  # bad lines of a file that are shown
CHOICES = 500  # labels, variants or prompt sets to choose from
ORDERS = 8  # orders of records that are remembered, with 4 bytes for each record
NO_ANSWER = (-1, None)
CHARACTER = regex.compile(f"[{SPACELESS}]")
ASKED = regex.compile(r'"([^"]*)"|(\S+)')
WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+\*?")
# Letters that NFD does not take apart, as they are typed on a keyboard without them.
LETTERS = {"đ": "d", "Đ": "D", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE"}
TO_PLAIN = str.maketrans(LETTERS | {chr(mark): "" for mark in range(0x300, 0x370)})


@dataclass(frozen=True)
class Source:
    """A JSONL file; of answers with their variant and the files of their scores and errors."""

    path: Path
    variant: str | None = None
    scores: Path | None = None
    errors: Path | None = None


@dataclass(frozen=True)
class Filters:
    """Which records are wanted, in which order; by default all, as they are in the files."""

    label: str = ""
    variant: str = ""
    set: str = ""
    errors: bool = False
    q: str = ""
    sort: str = ""
    order: str = "asc"


class Place(NamedTuple):
    """An indexed record: what it is filtered by, and where its line is."""

    key: int
    id: str
    label: str | None
    variant: str | None
    prompt_set: str | None
    is_error: int
    file: int
    start: int
    size: int


class RecordIndex:
    """The index of some files, in a database that is deleted with it; `title` names them while they are read."""

    def __init__(self, database: Path, sources: list[Source], title: str):
        self.database, self.sources = database, sources
        weakref.finalize(self, database.unlink, missing_ok=True)
        self.metrics: dict[str, dict] = {}  # title and direction by name
        self.language: str | None = None
        self.keys = lru_cache(ORDERS)(self.ordered_keys)
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(SCHEMA)
            self.add_records(connection, title)
            connection.execute("CREATE INDEX by_id ON records (id)")
            for source in sources:
                for add in (self.add_scores, self.add_errors):
                    try:
                        add(connection, source)
                    except (UserError, ValueError, KeyError, TypeError) as error:
                        warn(f"{source.path}: its scores or errors can't be read and are left out: {error}")
            connection.execute(NUMBER_REPEATED)  # after the files of scores and errors, which have the ids as they are
            connection.commit()
        self.count = self.select("SELECT count(*) FROM records")[0][0]
        self.labels, self.variants, self.sets = map(self.choices, ("label", "variant", "prompt_set"))

    def add_records(self, connection: sqlite3.Connection, title: str) -> None:
        """Index all lines; a line that can't be read is left out, and said."""
        bar = Progress(f"index {title}", sum(source.path.stat().st_size for source in self.sources))
        key, records, words = 0, [], []

        def write() -> None:
            connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", records)
            connection.executemany("INSERT INTO words (rowid, written, plain) VALUES (?, ?, ?)", words)
            records.clear()
            words.clear()

        for file, source in enumerate(self.sources):
            for start, size, row in self.lines(source):
                variant, is_error = source.variant or row.variant, row.is_error and source.variant is None
                records.append((key, row.id, row.label, variant, row.prompt_set, is_error, file, start, size))
                words.append((key, *searchable(row.searched)))
                if len(words) == BATCH:
                    write()
                key += 1
                bar.advance(size)
        write()

    def lines(self, source: Source) -> Iterator[tuple[int, int, Row]]:
        """Yield start and size in bytes, and the row, of each usable line."""
        end, bad = 0, 0
        with open(source.path, "rb") as file:
            for number, line in enumerate(file, 1):
                end += len(line)
                if not line.strip():
                    continue
                try:
                    yield end - len(line), len(line), parsed(line)
                except UserError as fault:
                    bad += 1
                    if bad <= FAULTS:
                        warn(str(UserError(f"{fault}; the line is left out", source.path, number)))
        if bad > FAULTS:
            warn(str(UserError(f"{bad} lines are left out; the first {FAULTS} are named above", source.path)))

    def add_scores(self, connection: sqlite3.Connection, source: Source) -> None:
        """Add the scores of single answers. Those of other answers than the file's are left out, and said."""
        if source.scores is None or not source.scores.is_file():
            return
        chosen = "SELECT key, id FROM records WHERE variant = ? AND prompt_set = ? ORDER BY key"
        with open(source.scores, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as text:
            self.language = self.language or value_of(text, "language")
            for prompt_set, ids, metrics in parts_of(text):
                answers = iter(connection.execute(chosen, (source.variant, prompt_set)))
                keys, (key, answer) = array("q"), next(answers, NO_ANSWER)
                for found in ids:
                    keys.append(key if found == answer else -1)
                    if found == answer:
                        key, answer = next(answers, NO_ANSWER)
                if answer is not None:
                    warn(f"{source.scores}: has no scores of answer {answer} to '{prompt_set}' and of those after it")
                for metric, values in metrics:
                    self.metrics.setdefault(metric, facts_of(text, metric))
                    number, pairs = list(self.metrics).index(metric), zip(keys, values, strict=False)
                    rows = ((number, key, value) for key, value in pairs if key >= 0 and value is not None)
                    connection.executemany("INSERT INTO scores VALUES (?, ?, ?)", rows)

    def add_errors(self, connection: sqlite3.Connection, source: Source) -> None:
        """Mark the answers in the file of errors: the wrong ones, or the worst ones of free text."""
        if source.errors is not None and source.errors.is_file():
            rows = ((row["id"], row["prompt_set"], source.variant) for row in read_jsonl(source.errors))
            chosen = "id = ? AND prompt_set = ? AND variant = ?"
            connection.executemany(f"UPDATE records SET is_error = 1 WHERE {chosen}", rows)  # noqa: S608

    def opened(self) -> closing[sqlite3.Connection]:
        """Return a connection, to be closed by `with`, that only reads."""
        return closing(sqlite3.connect(f"file:{quote(str(self.database))}?mode=ro&immutable=1", uri=True))

    def select(self, query: str, values: tuple = ()) -> list[tuple]:
        """Return the rows of a query."""
        with self.opened() as connection:
            return connection.execute(query, values).fetchall()

    def choices(self, column: str) -> list[str]:
        """Return the values of a column, sorted."""
        chosen = f"SELECT DISTINCT {column} FROM records WHERE {column} <> '' ORDER BY 1 LIMIT {CHOICES}"  # noqa: S608
        return [value for (value,) in self.select(chosen)]

    def ordered_keys(self, filters: Filters) -> array:
        """Return the keys of the wanted records in order; `keys` remembers the last ones. UserError for no such score.

        Records without the score come last in either direction.
        """
        wanted = {"label": filters.label, "variant": filters.variant, "prompt_set": filters.set}
        conditions = {f"{column} = ?": value for column, value in wanted.items() if value}
        if filters.errors:
            conditions["is_error = ?"] = 1
        if filters.q.strip():
            conditions["key IN (SELECT rowid FROM words WHERE words MATCH ?)"] = match_query(filters.q)
        join, order, values = "", "key", [*conditions.values()]
        if filters.sort:
            if filters.sort not in self.metrics:
                raise UserError(f"there is no score '{filters.sort}'", remedy=f"there are: {', '.join(self.metrics)}")
            join = "LEFT JOIN (SELECT key, value FROM scores WHERE metric = ?) USING (key)"
            order = f"value IS NULL, value {'DESC' if filters.order == 'desc' else 'ASC'}, key"
            values.insert(0, list(self.metrics).index(filters.sort))
        where = " AND ".join(conditions) or "1"
        with self.opened() as connection:
            found = connection.execute(f"SELECT key FROM records {join} WHERE {where} ORDER BY {order}", values)  # noqa: S608
            return array("I", (key for (key,) in found))

    def places(self, keys: list[int]) -> list[Place]:
        """Return the places of keys, in the same order."""
        marks = ", ".join("?" * len(keys))
        found = {row[0]: Place(*row) for row in self.select(f"SELECT * FROM records WHERE key IN ({marks})", (*keys,))}  # noqa: S608
        return [found[key] for key in keys if key in found]

    def places_of(self, record: str, variant: str = "", prompt_set: str = "") -> list[Place]:
        """Return the places of a record's id, of each variant and prompt set or of one."""
        chosen = "SELECT * FROM records WHERE id = ? AND ? IN ('', variant) AND ? IN ('', prompt_set) ORDER BY key"
        return [Place(*row) for row in self.select(chosen, (record, variant, prompt_set))]

    def scores_of(self, keys: list[int], metric: str) -> dict[int, float]:
        """Return the values of a score by key."""
        marks, number = ", ".join("?" * len(keys)), list(self.metrics).index(metric)
        chosen = f"SELECT key, value FROM scores WHERE metric = ? AND key IN ({marks})"  # noqa: S608
        return dict(self.select(chosen, (number, *keys)))

    def read(self, place: Place) -> Row:
        """Return the row at a place. Raises UserError if the file was changed after it was indexed."""
        path = self.sources[place.file].path
        with open(path, "rb") as file:
            file.seek(place.start)
            return parsed(file.read(place.size))


def parsed(line: bytes) -> Row:
    """Return the row of a line. Raises UserError for anything but a JSON object."""
    try:
        found = json.loads(line, parse_constant=lambda name: None, parse_float=finite)
        if isinstance(found, dict):
            return row_of(found)
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not valid JSON: {error}") from None
    raise UserError("is not a JSON object")


def finite(text: str) -> float | None:
    """Return a number of JSON; None for one beyond the largest, such as 1e999, which no reply can hold."""
    return value if math.isfinite(value := float(text)) else None


def searchable(text: str) -> tuple[str, str]:
    """Return a text for the index, and those of its words that have marks or special letters, without these."""
    if text.isascii():
        return text, ""
    text = unicodedata.normalize("NFC", text).encode("utf-8", "replace").decode("utf-8")  # without half surrogates
    words = " ".join(word for word in text.split() if not word.isascii())
    return CHARACTER.sub(r" \g<0> ", text), plain(words)


def plain(text: str) -> str:
    """Return a text without marks and special letters, as it is typed without them."""
    return unicodedata.normalize("NFD", text).translate(TO_PLAIN)


def match_query(asked: str) -> str:
    """Return what a user types as a query of FTS5: all words, each whole and with or without its marks.

    A word with marks finds only itself; without any, it finds words with marks too. `word*` finds beginnings, and words
    in quotes are found next to each other. Raises UserError for a text without a word.
    """
    terms = []
    for phrase, word in ASKED.findall(unicodedata.normalize("NFC", asked)):
        words = WORD.findall(word)
        terms += [" ".join(WORD.findall(phrase)).replace("*", "")] if phrase else words
    if not any(terms):
        raise UserError(f"'{asked}' has no word to look for", remedy="type letters or digits")
    found = [CHARACTER.sub(r" \g<0> ", term) for term in terms if term]
    return " AND ".join(f'"{term[:-1]}"*' if term.endswith("*") else f'"{term}"' for term in found)
