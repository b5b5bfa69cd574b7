"""What the review page shows: the splits, quarantines and answers of results folders, and other JSONL files.

Nothing outside these folders, and the folders of these files, is opened, not even through a link in them.
"""

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import quote

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.records import SPLITS
from scripts.common.terminal import warn
from scripts.review.images import Picture, picture
from scripts.review.record_index import Filters, Place, RecordIndex, Source
from scripts.score.word_diff import word_diff

EXCERPT = 160  # characters of a record in a list


class NotFoundError(UserError):
    """There is no such collection, record or image."""


@dataclass
class Collection:
    """Files that are shown as one list. `sources` finds them each time, so that a new variant appears by itself."""

    id: str
    kind: str
    title: str
    sources: Callable[[], list[Source]]
    images: Path | None  # the folder that names of images start from
    scratch: Path  # the folder of indexes
    dataset: str | None = None
    run: str | None = None
    built: list = field(default_factory=list)
    current: RecordIndex | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    numbers: count = field(default_factory=count)

    @property
    def index(self) -> RecordIndex:
        """The index, built again after a file has changed. Raises NotFoundError if the files were removed."""
        with self.lock:
            sources = self.sources()
            if not sources:
                raise NotFoundError(f"the files of '{self.id}' are no longer there")
            files = [path for source in sources for path in (source.path, source.scores, source.errors) if path]
            facts = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.is_file()]
            if self.built != facts:
                database = self.scratch / f"{self.id.replace('/', '.')}.{next(self.numbers)}.sqlite"
                self.current, self.built = RecordIndex(database, sources, self.title), facts
            return self.current

    def facts(self) -> dict:
        """Return what GET /api/collections says of it."""
        index = self.index
        return {
            **{name: getattr(self, name) for name in ("id", "kind", "title", "dataset", "run")},
            **{name: getattr(index, name) for name in ("count", "labels", "variants", "sets", "language")},
            "scores": [{"name": name, **facts} for name, facts in index.metrics.items()],
        }

    def picture(self, name: str) -> Picture | None:
        """Return an image that a record names; None if there is none in the folder."""
        return picture(self.images, name) if self.images else None

    def shown(self, messages: list[dict]) -> list[dict]:
        """Return messages with the addresses of their images; an image that can't be shown is named as text."""
        contents = [message["content"] for message in messages]
        shown = [content if isinstance(content, str) else [*map(self.part, content)] for content in contents]
        return [message | {"content": content} for message, content in zip(messages, shown, strict=True)]

    def part(self, part: dict) -> dict:
        """Return a part of a message as it is shown."""
        if part["type"] != "image":
            return part
        name = part["image"]
        if found := self.picture(name):
            address = f"/image/{quote(self.id)}/{quote(name)}"
            return {"type": "image", "url": address, "width": found.width, "height": found.height}
        return {"type": "text", "text": f"[image {name[:EXCERPT]}]"}


class Library:
    """All collections by id. Raises UserError for a path that can't be opened, and if there is nothing to show."""

    def __init__(self, paths: list[Path]):
        self.scratch = tempfile.TemporaryDirectory(prefix="snaketune-review-")
        self.collections: dict[str, Collection] = {}
        for path in paths:
            if path.is_dir():
                self.add_results(path)
            elif path.is_file():
                number = sum(found.kind == "file" for found in self.collections.values()) + 1
                self.add(f"file/{number}", "file", path.name, partial(one_file, path), path.parent)
            else:
                raise UserError("does not exist", path, remedy="run snakemake first, or name another path")
        if not self.collections:
            raise UserError("has neither splits nor answers yet", paths[0], remedy="run snakemake first")

    def add(self, name: str, kind: str, title: str, sources: Callable, images: Path | None, **facts: str) -> None:
        """Add a collection if it has files, and index them."""
        if name in self.collections:
            raise UserError(f"two results folders have '{name}'", remedy="open one of them at a time")
        if sources():
            collection = Collection(name, kind, title, sources, images, Path(self.scratch.name), **facts)
            _ = collection.index
            self.collections[name] = collection

    def add_results(self, results: Path) -> None:
        """Add the collections of a results folder."""
        for folder in sorted(results.glob("datasets/*/")):
            name = folder.name
            for part in (*SPLITS, "quarantine"):
                kind = "split" if part in SPLITS else "quarantine"
                sources = partial(files_inside, results, f"datasets/{name}/{part}.jsonl")
                self.add(f"dataset/{name}/{part}", kind, f"{name}: {part}", sources, folder, dataset=name)
        for name in sorted(folder.name for folder in results.glob("runs/*/")):
            sources = partial(files_inside, results, f"runs/{name}/answers/*.jsonl")
            self.add(f"run/{name}", "answers", f"{name}: answers", sources, None, run=name)
            self.find_dataset(f"run/{name}")

    def find_dataset(self, run: str) -> None:
        """Give a run its dataset: the one with the record of its first answer."""
        first = self.collections[run].index.places([0]) if run in self.collections else []
        for found in self.collections.values():
            if first and found.kind == "split" and found.index.places_of(first[0].id):
                self.collections[run].dataset, self.collections[run].images = found.dataset, found.images
                return

    def collection(self, name: str) -> Collection:
        """Return a collection by its id. Raises NotFoundError."""
        if name not in self.collections:
            raise NotFoundError(f"there is no collection '{name}'", remedy="/api/collections lists them")
        return self.collections[name]

    def answers(self, run: str, variant: str) -> list[dict]:
        """Return the rows of a variant's answers to the test split, with the records' groups. Raises NotFoundError."""
        collection = self.collection(f"run/{run}")
        files = {source.variant: source.path for source in collection.sources()}
        if variant not in files:
            raise NotFoundError(f"the run '{run}' has no answers of '{variant}'", remedy=f"it has {', '.join(files)}")
        split = self.collections.get(f"dataset/{collection.dataset}/test")
        records = read_jsonl(split.sources()[0].path) if split else []
        groups = {record["id"]: record["group"] for record in records if record.get("group") is not None}
        rows = (row for row in read_jsonl(files[variant]) if row["prompt_set"] == "test")
        return [{**row, "group": groups.get(row["id"])} for row in rows]

    def prompt(self, run: str, messages: list[dict]) -> list[dict]:
        """Return the messages of an answer of a run as the page shows them: images have addresses."""
        return self.collection(f"run/{run}").shown(messages)

    def page(self, name: str, filters: Filters, offset: int, limit: int) -> dict:
        """Return the number of wanted records, and some of them."""
        index = self.collection(name).index
        keys = index.keys(filters)
        places = index.places([*keys[offset : offset + limit]])
        scores = index.scores_of([place.key for place in places], filters.sort) if filters.sort else {}
        records = [
            {**summary(place), "text": index.read(place).shown[:EXCERPT], "score": scores.get(place.key)}
            for place in places
        ]
        return {"total": len(keys), "records": records}

    def key(self, name: str, record: str, variant: str = "", prompt_set: str = "") -> int:
        """Return the key of a record by its id, of the first of several. Raises NotFoundError."""
        places = self.collection(name).index.places_of(record, variant, prompt_set)
        if not places:
            raise NotFoundError(f"'{name}' has no record '{record}' {variant} {prompt_set}".rstrip())
        return places[0].key

    def record(self, name: str, record: str, variant: str = "", prompt_set: str = "") -> dict:
        """Return a record by its id, as GET /api/record does, without neighbours. Raises NotFoundError."""
        return self.record_at(name, self.key(name, record, variant, prompt_set))

    def record_at(self, name: str, key: int, filters: Filters | None = None) -> dict:
        """Return a record by its key; with filters, also its neighbours under them. Raises NotFoundError."""
        collection = self.collection(name)
        index = collection.index
        places = index.places([key])
        if not places:
            raise NotFoundError(f"'{name}' has no record with the key {key}")
        place, row = places[0], index.read(places[0])
        scores = {metric: index.scores_of([key], metric).get(key) for metric in index.metrics}
        others = index.places_of(place.id, prompt_set=place.prompt_set or "") if place.variant else []
        compared = None not in (row.actual, row.expected) and row.gold is None
        return {
            **summary(place),
            **{field: getattr(row, field) for field in ("reason", "expected", "actual", "text", "gold", "predicted")},
            "messages": collection.shown(row.messages),
            "diff": word_diff(row.actual, row.expected, index.language) if compared else None,
            "scores": {metric: value for metric, value in scores.items() if value is not None},
            "others": [
                {"key": str(other.key), "variant": other.variant, "actual": index.read(other).actual}
                for other in others
                if other.key != key
            ],
            **{field: getattr(row, field) for field in ("group", "origin", "meta")},
            **self.facts_of_split(collection, place.id, row.meta),
            **(neighbours(index, key, filters) if filters else {}),
        }

    def facts_of_split(self, collection: Collection, record: str, meta: dict) -> dict:
        """Return group, origin and meta of an answer's record, from the splits of its dataset."""
        for split in reversed(SPLITS) if collection.kind == "answers" else ():
            found = self.collections.get(f"dataset/{collection.dataset}/{split}")
            if found and (places := found.index.places_of(record)):
                row = found.index.read(places[0])
                return {"group": row.group, "origin": row.origin, "meta": row.meta | meta}
        return {}


def summary(place: Place) -> dict:
    """Return what a list and a record say of a place."""
    facts = {"key": str(place.key), "id": place.id, "label": place.label, "variant": place.variant}
    return facts | {"set": place.prompt_set, "is_error": bool(place.is_error)}


def neighbours(index: RecordIndex, key: int, filters: Filters) -> dict:
    """Return the records before and after one under the filters, and its place among them, from 1."""
    keys = index.keys(filters)
    if key not in keys:
        return {"previous": None, "next": None, "position": None, "total": len(keys)}
    at = keys.index(key)
    before, after = (str(keys[n]) if 0 <= n < len(keys) else None for n in (at - 1, at + 1))
    return {"previous": before, "next": after, "position": at + 1, "total": len(keys)}


def one_file(path: Path) -> list[Source]:
    """Return a file of the command line as the only source, if it still exists."""
    return [Source(path)] if path.is_file() else []


def files_inside(results: Path, pattern: str) -> list[Source]:
    """Return the files of a pattern in a results folder; a link that leads out of it is left out, and said."""
    sources = []
    for path in sorted(results.glob(pattern)):
        run = path.parents[1]
        scores, errors = run / f"scores/{path.stem}.json", run / f"errors/{path.stem}.jsonl"
        if not all(found.resolve().is_relative_to(results.resolve()) for found in (path, scores, errors)):
            warn(f"{path}: it or its scores are links out of {results}, so it is not opened")
        elif path.is_file():
            sources.append(Source(path, path.stem, scores, errors) if path.parent.name == "answers" else Source(path))
    return sources
