"""Corrections of records: readers propose them, people accept or reject them, the dataset stage applies those accepted.

A row of corrections.jsonl is that of scripts/dataset/corrections.py, with the time of acceptance.
"""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.routing import Route

from scripts.common.errors import UserError
from scripts.common.records import SPLITS
from scripts.dataset.corrections import checked
from scripts.dataset.raw_rows import BadRecordError
from scripts.review.judgements import Judgements, now
from scripts.review.library import Library, NotFoundError
from scripts.review.replies import answering, reader_of, text

LARGEST = 2**63  # from here on SQLite has no numbers
KINDS = {
    "quarantine": "it was set aside: correct the raw file",
    "file": "it is of a plain file: edit the file",
}  # of collections without records that can be corrected


def routes(library: Library, folder: Path) -> list[Route]:
    """Return the routes; `library` has the records, `folder` holds the file of judgements."""

    def propose(said: dict) -> dict:
        return add(folder, library, said)

    def decide(said: dict) -> dict:
        return settle(folder, said["number"], reader_of(said), text(said, "status"))

    return [
        Route("/api/corrections", answering(lambda said: {"corrections": corrections(folder)}), methods=["GET"]),
        Route("/api/corrections", answering(propose), methods=["POST"]),
        Route("/api/corrections/{number:int}", answering(decide), methods=["POST"]),
    ]


def corrections(folder: Path, where: str = "true", values: tuple = ()) -> list[dict]:
    """Return all corrections, or those where an expression of SQL is true, the oldest first."""
    with Judgements(folder).reading() as database:
        query = f"select * from correction where {where} order by id"  # noqa: S608
        rows = [dict(row) for row in database.execute(query, values)]
    return [row if row["status"] == "accepted" else row | {"accepted_by": None} for row in rows]


def correction_of(folder: Path, dataset: str, record: str) -> dict | None:
    """Return the latest correction of a record, as GET /api/corrections has it; None without one."""
    original = record.partition("-")[0]  # a further copy of a record has a number
    found = corrections(folder, "dataset = ? and record = ?", (dataset, original))
    return found[-1] if found else None


def add(folder: Path, library: Library, said: dict) -> dict:
    """Store a proposal and return it. Raises HTTPException (409) for a record that can't be corrected so."""
    dataset = library.collection(text(said, "collection")).dataset
    record = found_record(library, said["collection"], text(said, "id"))
    if text(said, "action") == "replace" and record["gold"] is not None:
        raise HTTPException(409, "the answer follows from the spans: drop the record, or correct the raw file")
    reader, at = reader_of(said), now()
    row = {"dataset": dataset, "record": record["id"], "reader": reader, "accepted_by": reader, "at": at}
    try:
        row = checked(row | {key: said.get(key) or "" for key in ("action", "text", "comment")}, has_spans=False)
    except BadRecordError as fault:
        raise UserError(str(fault)) from None
    values = {key: row[key] for key in ("dataset", "record", "action", "text", "reader", "at", "comment")}
    values["was"] = record["expected"]
    with Judgements(folder).writing() as database:
        names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        number = database.execute(f"insert into correction ({names}) values ({marks})", values).lastrowid  # noqa: S608
    return one(folder, number)


def found_record(library: Library, collection: str, record: str) -> dict:
    """Return a record, or an answer's record, from its split. Raises HTTPException (409) if it can't be corrected."""
    place = library.collection(collection)
    if place.kind in KINDS:
        raise HTTPException(409, f"this record can't be corrected here, because {KINDS[place.kind]}")
    for split in (f"dataset/{place.dataset}/{split}" for split in SPLITS):
        if split not in library.collections:
            continue
        try:
            found = library.record(split, record)
        except NotFoundError:
            continue
        if (library.collection(split).images / "redaction.json").exists():
            raise HTTPException(409, "records of a redacted dataset can't be corrected here: correct the raw files")
        if found["meta"].get("augmented"):
            original = found["meta"].get("augmented_from")
            raise HTTPException(409, f"this is an augmented copy: correct the record {original}, and it follows")
        return found
    raise NotFoundError(
        f"no split has the record '{record[:40]}'", remedy="it has changed, or is of another prompt set"
    )


def settle(folder: Path, number: int, reader: str, status: str) -> dict:
    """Accept or reject a correction, as often as wanted; return it.

    To accept a correction rejects the one of the same record that was accepted before. One that is accepted again keeps
    who accepted it first, and when: corrections of the corrected text are later, and still follow it.
    """
    if status not in ("accepted", "rejected"):
        raise UserError(f"'{status[:40]}' is neither 'accepted' nor 'rejected'")
    row = one(folder, number)
    with Judgements(folder).writing() as database:
        if status == "accepted":
            others = "dataset = ? and record = ? and status = 'accepted'"
            database.execute(
                f"update correction set status = 'rejected' where {others}",  # noqa: S608
                (row["dataset"], row["record"]),
            )
            first = "accepted_by = coalesce(accepted_by, ?), accepted_at = coalesce(accepted_at, ?)"
            database.execute(f"update correction set {first} where id = ?", (reader, now(), number))  # noqa: S608
        database.execute("update correction set status = ? where id = ?", (status, number))
    return one(folder, number)


def one(folder: Path, number: int) -> dict:
    """Return a correction by its id."""
    for row in corrections(folder, "id = ?", (number,)) if number < LARGEST else ():
        return row
    raise NotFoundError(f"there is no correction {number}", remedy="GET /api/corrections lists them")


def accepted(folder: Path) -> list[dict]:
    """Return the rows of corrections.jsonl: the accepted corrections, with the time of acceptance."""
    kept = ("dataset", "record", "action", "text", "reader", "accepted_by", "comment")
    found = corrections(folder, "status = 'accepted'")
    return [{key: row[key] for key in kept} | {"at": row["accepted_at"]} for row in found]
