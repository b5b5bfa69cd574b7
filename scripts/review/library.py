"""What the review page shows: the splits, quarantines and answers of results folders, and other JSONL files.

Nothing outside these folders is opened, not even through a link in them.
"""

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.common.records import SPLITS
from scripts.common.terminal import warn
from scripts.review.images import Picture, picture
from scripts.review.record_index import Filters, Place, RecordIndex, Source
from scripts.review.rows import READERS, Row
from scripts.score.word_diff import word_diff

EXCERPT = 160  # characters of a record in a list
KINDS = {"split": "Split", "quarantine": "Quarantine", "answers": "Answers", "file": "File"}


class NotFoundError(UserError):
    """There is no such collection, record or image."""


@dataclass
class Collection:
    """Files that are shown as one list. `sources` finds them anew, so that a new variant appears by itself."""

    id: str
    kind: str
    title: str
    sources: Callable[[], list[Source]]
    images: Path | None  # the folder that images are in
    scratch: Path  # folder of the indexes
    dataset: str | None = None
    run: str | None = None
    built: tuple = ()
    current: RecordIndex | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    numbers: count = field(default_factory=count)

    @property
    def index(self) -> RecordIndex:
        """The index, built again after a file has changed."""
        with self.lock:
            sources = self.sources()
            if not sources:
                raise NotFoundError(f"the files of '{self.id}' are no longer there")
            files = [file for source in sources for file in (source.path, source.scores, source.errors) if file]
            stats = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file()]
            if self.built != tuple(stats):
                database = self.scratch / f"{self.id.replace('/', '.')}.{next(self.numbers)}.sqlite"
                old, self.current = self.current, RecordIndex(database, sources, READERS[self.kind], self.title)
                self.built = tuple(stats)
                if old is not None:
                    old.database.unlink()
            return self.current

    def facts(self) -> dict:
        """Return what GET /api/collections says of it."""
        index = self.index
        return {
            "id": self.id,
            "kind": self.kind,
            "title": self.title,
            "count": index.count,
            "labels": index.labels,
            "variants": index.variants,
            "sets": index.sets,
            "dataset": self.dataset,
            "run": self.run,
            "scores": [{"name": name, **facts} for name, facts in index.metrics.items()],
        }


class Library:
    """All collections, by id. Raises UserError for a path that can't be opened, and if there is nothing to show."""

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
                raise UserError("does not exist", path, remedy="name a results folder or a JSONL file")
        if not self.collections:
            named = ", ".join(map(str, paths))
            raise UserError(f"{named}: has no split and no answers yet", remedy="run snakemake first")

    def add(self, name: str, kind: str, title: str, sources: Callable, images: Path | None, **facts: str) -> None:
        """Add a collection if it has files, and index them."""
        if name in self.collections:
            raise UserError(f"two results folders have '{name}'", remedy="open one of them at a time")
        if sources():
            found = Collection(name, kind, title, sources, images, Path(self.scratch.name), **facts)
            _ = found.index
            self.collections[name] = found

    def add_results(self, results: Path) -> None:
        """Add the collections of a results folder."""
        inside = partial(files_inside, results)
        for folder in sorted(results.glob("datasets/*/")):
            name = folder.name
            for split in (*SPLITS, "quarantine"):
                kind = "quarantine" if split == "quarantine" else "split"
                sources = partial(inside, f"datasets/{name}/{split}.jsonl")
                self.add(f"dataset/{name}/{split}", kind, f"{name}: {split}", sources, folder / "images", dataset=name)
        for folder in sorted(results.glob("runs/*/")):
            sources = partial(inside, f"runs/{folder.name}/answers/*.jsonl")
            self.add(f"run/{folder.name}", "answers", f"{folder.name}: answers", sources, None, run=folder.name)
            if found := self.collections.get(f"run/{folder.name}"):
                self.place_in_dataset(found)

    def place_in_dataset(self, run: Collection) -> None:
        """Find the dataset of a run: the one with the record of its first answer."""
        first = run.index.places([0])
        for found in self.collections.values():
            if first and found.kind == "split" and found.index.places_of(first[0].id):
                run.dataset, run.images = found.dataset, found.images
                return

    def datasets(self) -> list[str]:
        """Return the names of the datasets."""
        return list(dict.fromkeys(found.dataset for found in self.collections.values() if found.kind == "split"))

    def collection(self, name: str) -> Collection:
        """Return a collection by its id. Raises NotFoundError."""
        if name not in self.collections:
            raise NotFoundError(f"there is no collection '{name}'", remedy="GET /api/collections lists them")
        return self.collections[name]

    def answers(self, run: str, variant: str) -> list[dict]:
        """Return the rows of a variant's answers to the test split. Raises NotFoundError."""
        sources = {source.variant: source.path for source in self.collection(f"run/{run}").sources()}
        if variant not in sources:
            raise NotFoundError(f"the run '{run}' has no variant '{variant}'", remedy=f"it has {', '.join(sources)}")
        return [row for row in read_jsonl(sources[variant]) if row["prompt_set"] == "test"]

    def page(self, name: str, filters: Filters, offset: int, limit: int) -> dict:
        """Return the number of wanted records, and some of them."""
        index = self.collection(name).index
        keys = index.keys(filters)
        places = index.places(list(keys[offset : offset + limit]))
        scores = index.scores_of([place.key for place in places], filters.sort) if filters.sort else {}
        records = [
            {
                "key": str(place.key),
                "id": place.id,
                "label": place.label,
                "variant": place.variant,
                "set": place.prompt_set,
                "text": index.read(place).shown[:EXCERPT],
                "score": scores.get(place.key),
                "is_error": bool(place.is_error),
            }
            for place in places
        ]
        return {"total": len(keys), "records": records}

    def record(self, name: str, record: str, variant: str = "", prompt_set: str = "") -> dict:
        """Return a record by its id, as GET /api/record does; the first of several. Raises NotFoundError."""
        return self.shown(name, self.key_of(name, record, variant, prompt_set))

    def key_of(self, name: str, record: str, variant: str = "", prompt_set: str = "") -> int:
        """Return the key of a record by its id."""
        places = self.collection(name).index.places_of(record, variant, prompt_set)
        if not places:
            raise NotFoundError(f"'{name}' has no record '{record}' {variant} {prompt_set}".rstrip())
        return places[0].key

    def shown(self, name: str, key: int, filters: Filters | None = None) -> dict:
        """Return a record by its key, with its neighbours under the filters, if there are any."""
        collection = self.collection(name)
        index = collection.index
        places = index.places([key])
        if not places:
            raise NotFoundError(f"'{name}' has no record with the key {key}")
        place, row = places[0], index.read(places[0])
        source = self.record_of(collection, place)
        has_diff = None not in (row.actual, row.expected) and row.gold is None
        return {
            "key": str(key),
            "id": place.id,
            "label": place.label,
            "variant": place.variant,
            "set": place.prompt_set,
            "is_error": bool(place.is_error),
            "reason": row.reason,
            "origin": source.origin,
            "group": source.group,
            "meta": source.meta,
            "messages": [
                {"role": message["role"], "content": self.content(collection, message["content"])}
                for message in row.messages
            ],
            "expected": row.expected,
            "actual": row.actual,
            "diff": word_diff(row.actual, row.expected, index.language) if has_diff else None,
            "text": row.text,
            "gold": row.gold,
            "predicted": row.predicted,
            "scores": {
                metric: found[key] for metric in index.metrics if key in (found := index.scores_of([key], metric))
            },
            "others": [
                {"key": str(other.key), "variant": other.variant, "actual": index.read(other).actual}
                for other in index.places_of(place.id, prompt_set=place.prompt_set or "")
                if other.key != key and collection.kind in ("answers", "file")
            ],
            **(neighbours(index, key, filters) if filters else {}),
        }

    def record_of(self, collection: Collection, place: Place) -> Row:
        """Return the record with group, origin and meta: for an answer, that of the split."""
        if collection.kind == "answers":
            for split in reversed(SPLITS):
                found = self.collections.get(f"dataset/{collection.dataset}/{split}")
                if found and (places := found.index.places_of(place.id)):
                    return found.index.read(places[0])
        return collection.index.read(place)

    def content(self, collection: Collection, content: str | list[dict]) -> Any:
        """Return a message's content; an image that can't be shown is named as text."""
        return content if isinstance(content, str) else [self.part(collection, part) for part in content]

    def part(self, collection: Collection, part: dict) -> dict:
        """Return a part of a message, of an image with its address and pixels."""
        if part["type"] != "image":
            return part
        name = part["image"].removeprefix("images/") if collection.kind != "file" else part["image"]
        found = self.image(collection.id, name)
        if found is None:
            return {"type": "text", "text": f"[image {part['image'][:EXCERPT]}]"}
        address = f"/image/{quote(collection.id)}/{quote(name)}"
        return {"type": "image", "url": address, "width": found.width, "height": found.height}

    def image(self, name: str, image: str) -> Picture | None:
        """Return an image of a collection; None if there is no such image in its folder."""
        folder = self.collection(name).images
        return picture(folder, image) if folder else None


def neighbours(index: RecordIndex, key: int, filters: Filters) -> dict:
    """Return the records before and after one under the filters, and its place among them, from 1."""
    keys = index.keys(filters)
    try:
        at = keys.index(key)
    except ValueError:
        return {"previous": None, "next": None, "position": None, "total": len(keys)}
    before, after = (str(keys[n]) if 0 <= n < len(keys) else None for n in (at - 1, at + 1))
    return {"previous": before, "next": after, "position": at + 1, "total": len(keys)}


def one_file(path: Path) -> list[Source]:
    """Return a file of the command line as the only source, if it still exists."""
    return [Source(path)] if path.is_file() else []


def files_inside(results: Path, pattern: str) -> list[Source]:
    """Return the files of a pattern in a results folder; a link that leads out of it is left out, and said."""
    sources = []
    for path in sorted(results.glob(pattern)):
        if not path.resolve().is_relative_to(results.resolve()):
            warn(f"{path}: leads out of {results}, so it is not opened")
        elif path.name.startswith(".") or not path.is_file():
            continue
        elif path.parent.name == "answers":
            beside = {
                kind: path.parents[1] / kind / f"{path.stem}.{end}"
                for kind, end in (("scores", "json"), ("errors", "jsonl"))
            }
            sources.append(Source(path, path.stem, **beside))
        else:
            sources.append(Source(path))
    return sources
