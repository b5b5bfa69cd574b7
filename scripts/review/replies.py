"""JSON in requests and replies, the same for all routes of the review page."""

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse


class Reply(JSONResponse):
    """JSON in ASCII: data may hold half of a surrogate pair, which has no UTF-8."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


async def body_of(request: Request) -> dict:
    """Return the JSON object of a request's body; status 400 for anything else."""
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return found
