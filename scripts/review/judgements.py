"""The store of judgements: a SQLite file in which every vote is on disk before the reader gets the reply.

A study stores the texts that are judged, so later changes of results do not change what was judged. Each reader gets
tasks when they join: an item to judge, for a pair with the sides in order or `swapped`, some of them a second time.
"""

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from scripts.common.errors import UserError
from scripts.deploy.quality_monitor import use_wal
from scripts.review.library import NotFoundError
from scripts.review.studies import plan_tasks

NAME = "judgements.sqlite"
VERSION = 2
PATIENCE = 30  # seconds to wait for another process that writes
MODEL = "model:"  # how the names of judge models begin
TABLES = f"""
begin immediate;
create table if not exists study (id text primary key, plan text not null, created text not null);
create table if not exists item (id integer primary key, study text not null references study, content text not null);
create index if not exists item_study on item (study);
create table if not exists task (
    id text primary key, study text not null references study, reader text not null, position integer not null,
    item integer not null references item, swapped integer not null, repeat integer not null,
    unique (study, reader, position)
);
create table if not exists vote (
    number integer primary key autoincrement, task text not null unique references task, at text not null,
    value text not null
);
create table if not exists shown (study text not null references study, reader text not null, unique (study, reader));
create table if not exists correction (
    id integer primary key autoincrement, dataset text not null, record text not null, action text not null,
    text text not null, was text, reader text not null, at text not null, comment text not null,
    status text not null default 'proposed', accepted_by text, accepted_at text
);
pragma user_version = {VERSION};
commit;
"""


class ConflictError(UserError):
    """A vote on a task that has one already, nothing to take back, or no task for a further reader."""


def connect(folder: Path) -> sqlite3.Connection:
    """Open the file of judgements. A statement, or a transaction, is on disk when it has returned.

    Raises UserError if the file is of a newer version or not a SQLite file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / NAME, timeout=PATIENCE, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        version = connection.execute("pragma user_version").fetchone()[0]
        if version > VERSION:
            raise UserError(f"has version {version}, not {VERSION}", folder / NAME, remedy="update snaketune")
        use_wal(connection, PATIENCE)
        for setting in ("synchronous = full", "foreign_keys = on"):
            connection.execute(f"pragma {setting}")
        if version < VERSION:
            connection.executescript(TABLES)
    except Exception as error:
        connection.close()
        if type(error) is sqlite3.DatabaseError:
            raise UserError(f"cannot be read: {error}", folder / NAME, remedy="move it away") from None
        raise
    return connection


def connect_to_read(folder: Path) -> sqlite3.Connection:
    """Open the file of judgements, or empty tables if it does not exist; nothing is written where that is not allowed.

    SQLite can't open a file in WAL mode in such a folder, unless it need not look for changes (`immutable`).
    """
    path = folder / NAME
    if path.exists() and os.access(folder, os.W_OK) and os.access(path, os.W_OK):
        return connect(folder)
    as_it_is = "" if (folder / f"{NAME}-wal").exists() else "&immutable=1"
    address = f"file:{quote(str(path))}?mode=ro{as_it_is}" if path.exists() else ":memory:"
    connection = sqlite3.connect(address, timeout=PATIENCE, isolation_level=None, uri=True)
    connection.row_factory = sqlite3.Row
    if address == ":memory:":
        connection.executescript(TABLES)
    return connection


class Judgements:
    """Studies, tasks and votes in a folder. Every method opens the file anew, so threads and processes can share it."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that only reads (`connect_to_read`)."""
        with closing(connect_to_read(self.folder)) as database:
            yield database

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a transaction that is on disk when the block ends; an exception takes it back."""
        with closing(connect(self.folder)) as database:
            database.execute("begin immediate")
            yield database
            database.execute("commit")

    def add_study(self, plan: dict, items: list[dict]) -> str:
        """Store a study with its items (`plan_study`); return its id."""
        study = secrets.token_hex(6)
        with self.writing() as database:
            database.execute("insert into study values (?, ?, ?)", (study, json.dumps(plan), now()))
            rows = [(study, json.dumps(item)) for item in items]
            database.executemany("insert into item (study, content) values (?, ?)", rows)
        return study

    def studies(self) -> list[dict]:
        """Return the plans of all studies, the newest first, each with `id`, `created` and its `readers`."""
        with self.reading() as database:
            studies = database.execute(
                "select id, created, plan from study order by created desc, rowid desc"
            ).fetchall()
            progress = database.execute(
                "select study, reader as name, count(number) as done, count(*) as 'of'"
                " from task left join vote on task = id group by study, reader order by reader"
            ).fetchall()
        readers: dict[str, list[dict]] = {}
        for row in progress:
            readers.setdefault(row["study"], []).append({name: row[name] for name in ("name", "done", "of")})
        return [
            {**json.loads(plan), "id": study, "created": created, "readers": readers.get(study, [])}
            for study, created, plan in studies
        ]

    def study(self, study: str) -> dict:
        """Return the plan of a study, as `studies` does."""
        for plan in self.studies():
            if plan["id"] == study:
                return plan
        raise NotFoundError(f"there is no study '{study}'", remedy="choose one of the list of studies")

    def items(self, study: str) -> list[dict]:
        """Return the items of a study, each also with its `item`, a number."""
        with self.reading() as database:
            rows = database.execute("select * from item where study = ? order by id", [study]).fetchall()
        return [{"item": row["id"], **json.loads(row["content"])} for row in rows]

    def spelled(self, reader: str) -> str:
        """Return a name as it was spelled first: capital letters make no other reader."""
        with self.reading() as database:
            for (name,) in database.execute("select reader from task group by reader order by min(rowid)"):
                if name.casefold() == reader.casefold() and not reader.startswith(MODEL):
                    return name
        return reader

    def join(self, study: str, reader: str) -> None:
        """Give a reader tasks, if they have none yet. A judge model gets every item once, in order.

        When all planned readers have joined, a further one takes over the tasks of one who has not voted, if there is
        one: who mistypes a name or only looks takes nobody's share.
        """
        has_tasks = "select 1 from task where study = ? and reader = ? limit 1"
        with self.reading() as database:
            if database.execute(has_tasks, (study, reader)).fetchone():
                return
        plan, items = self.study(study), [item["item"] for item in self.items(study)]
        with self.writing() as database:
            if database.execute(has_tasks, (study, reader)).fetchone():
                return
            tasks = [(place, False, False) for place in range(len(items))]
            if not reader.startswith(MODEL):
                people = database.execute(
                    "select reader, count(number) as votes from task left join vote on task = id"
                    " where study = ? and substr(reader, 1, ?) != ? group by reader order by min(task.rowid)",
                    (study, len(MODEL), MODEL),
                ).fetchall()
                idle = [row["reader"] for row in people if not row["votes"]]
                if idle and len(people) >= plan["planned_readers"]:
                    handed = "update task set reader = ? where study = ? and reader = ?"
                    database.execute(handed, (reader, study, idle[0]))
                    return
                tasks = plan_tasks(plan, len(people))
            if not tasks:
                raise ConflictError("this study has no task for a further reader", remedy="start another study")
            database.executemany(
                "insert into task values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (secrets.token_hex(8), study, reader, position, items[place], is_swapped, is_repeat)
                    for position, (place, is_swapped, is_repeat) in enumerate(tasks)
                ],
            )

    def next_task(self, study: str, reader: str) -> dict:
        """Return the reader's next task: `task` (its id; None if all are done), `messages`, `texts`, `done` and `of`.

        Nothing else is in it, so it cannot tell the sides.
        """
        reader = self.spelled(reader)
        self.join(study, reader)
        with self.reading() as database:
            row = database.execute(
                "select task.id, swapped, content from task join item on item.id = item"
                " left join vote on task = task.id"
                " where task.study = ? and reader = ? and number is null order by position limit 1",
                (study, reader),
            ).fetchone()
            progress = progress_of(database, study, reader)
        if row is None:
            return {"task": None, **progress}
        item = json.loads(row["content"])
        texts = item["texts"][::-1] if row["swapped"] else item["texts"]
        return {"task": row["id"], "messages": item["messages"], "texts": texts, **progress}

    def vote(self, task: str, reader: str, value_of: Callable[[str, bool], dict]) -> dict:
        """Store a vote; return `done` and `of`. `value_of(kind, is_swapped)` gives what it says.

        The vote is on disk when this returns. Raises NotFoundError for a task that the reader does not have, and
        ConflictError for a task with a vote.
        """
        reader = self.spelled(reader)
        with self.writing() as database:
            row = database.execute(
                "select study, swapped, plan, number from task join study on study.id = study"
                " left join vote on task = task.id where task.id = ? and reader = ?",
                (task, reader),
            ).fetchone()
            if row is None:
                raise NotFoundError("this reader has no such task", remedy="reload the page")
            if row["number"] is not None:
                raise ConflictError("this text has been judged already", remedy="undo takes the last vote back")
            value = value_of(json.loads(row["plan"])["kind"], bool(row["swapped"]))
            database.execute("insert into vote (task, at, value) values (?, ?, ?)", (task, now(), json.dumps(value)))
            return progress_of(database, row["study"], reader)

    def show(self, study: str, reader: str) -> None:
        """Note that a reader sees the results of a study. Raises ConflictError while they have texts left to judge."""
        reader = self.spelled(reader)
        with self.reading() as database:
            progress = progress_of(database, study, reader)
        if progress["done"] < progress["of"]:
            judged = "you have judged {done} of {of} texts, and would know the sides of the others".format(**progress)
            raise ConflictError(judged, remedy="judge them first")
        if progress["of"] and os.access(self.folder, os.W_OK):  # elsewhere no vote can be taken back anyway
            with self.writing() as database:
                database.execute("insert or ignore into shown values (?, ?)", (study, reader))

    def undo(self, study: str, reader: str) -> None:
        """Take back the reader's last vote in a study, unless they have seen its results."""
        reader = self.spelled(reader)
        with self.writing() as database:
            if database.execute("select 1 from shown where study = ? and reader = ?", (study, reader)).fetchone():
                raise ConflictError("you have seen the results, so your votes stay as they are")
            last = database.execute(
                "select max(number) from vote join task on id = task where study = ? and reader = ?", (study, reader)
            ).fetchone()[0]
            if last is None:
                raise ConflictError("there is no vote to take back")
            database.execute("delete from vote where number = ?", [last])

    def votes(self, study: str | None = None) -> list[dict]:
        """Return the votes of a study (default: of all) in the order in which they were given.

        Each has what it says, `study`, `kind`, `reader`, `is_model`, `repeat`, `at`, and its item without the texts.
        """
        with self.reading() as database:
            rows = database.execute(
                "select task.study, plan, reader, at, repeat, item, content, value from vote"
                " join task on task.id = task join item on item.id = item join study on study.id = task.study"
                " where ?1 is null or task.study = ?1 order by number",
                [study],
            ).fetchall()
        votes = []
        for row in rows:
            item = json.loads(row["content"])
            del item["messages"], item["texts"]
            told = {name: row[name] for name in ("study", "reader", "at", "item")}
            told |= {"kind": json.loads(row["plan"])["kind"], "repeat": bool(row["repeat"])}
            votes.append({**told, "is_model": row["reader"].startswith(MODEL), **item, **json.loads(row["value"])})
        return votes


def now() -> str:
    """Return the time in UTC as votes have it, such as 2026-11-29T21:00:00Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def progress_of(database: sqlite3.Connection, study: str, reader: str) -> dict:
    """Return how many of a reader's tasks are `done`, and `of` how many."""
    counted = "select count(number), count(*) from task left join vote on task = id where study = ? and reader = ?"
    done, of = database.execute(counted, (study, reader)).fetchone()
    return {"done": done, "of": of}
