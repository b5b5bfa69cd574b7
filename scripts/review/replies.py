"""JSON in requests and replies, the same for all routes of the review page."""

import json
import sqlite3
import unicodedata
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from scripts.common.errors import UserError
from scripts.review.judgements import MODEL, NAME, ConflictError

LONGEST_NAME = 40  # characters


class Reply(JSONResponse):
    """JSON in ASCII: data may hold half of a surrogate pair, which has no UTF-8."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


async def body_of(request: Request) -> dict:
    """Return the JSON object of a request's body; status 400 for anything else, also for half of a surrogate pair."""
    try:
        found = json.loads(await request.body())
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HTTPException(400, "the body is not a JSON object in whole characters")
    return found


def answering(function: Callable[[dict], dict]) -> Callable:
    """Return the endpoint of a function of what a request says: its query or JSON body, and the names in its path."""

    async def endpoint(request: Request) -> Reply:
        said = dict(request.query_params) if request.method == "GET" else await body_of(request)
        try:
            return Reply(await run_in_threadpool(function, said | request.path_params))
        except ConflictError as error:
            raise HTTPException(409, str(error)) from None
        except (sqlite3.Error, OSError) as error:
            raise HTTPException(503, f"nothing was stored, because {NAME} or its folder fails: {error}") from None

    return endpoint


def text(said: dict, name: str) -> str:
    """Return a text of a request."""
    if not isinstance(said.get(name), str) or not said[name]:
        raise UserError(f"'{name}' is missing or is not a text")
    return said[name]


def number(said: dict, name: str, default: float | None, kind: type = float) -> float | None:
    """Return a number of a request, given as JSON or, in a query, as text; `default` if it is missing or empty."""
    if said.get(name) in (None, ""):
        return default
    try:
        return kind(said[name])
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"'{name}' is not a {'whole ' if kind is int else ''}number") from None


def reader_of(said: dict) -> str:
    """Return the reader's name. Raises UserError for one that is empty, too long, or a judge model's."""
    name = " ".join(unicodedata.normalize("NFC", text(said, "reader")).split())
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name.casefold().startswith(MODEL):
        remedy = f"give 1 to {LONGEST_NAME} characters that do not begin with '{MODEL}'"
        raise UserError("this cannot be a reader's name", remedy=remedy)
    return name
