"""The web application of the review page: its routes, and who may call them."""

import base64
import hmac
import ipaddress
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scripts.common.errors import UserError
from scripts.review import corrections, judging_routes
from scripts.review.library import Library, NotFoundError
from scripts.review.record_index import Filters
from scripts.review.replies import Reply

PAGE = Path(__file__).parent / "page"
MAX_BODY = 2**20  # bytes of a request
MAX_LIMIT = 200  # records in a reply
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def create_app(paths: list[Path], folder: Path, *, host: str = "127.0.0.1", password: str | None = None) -> Starlette:
    """Return the application on these results folders and files; `folder` has the judgements.

    Raises UserError for an address of this machine that others reach, without a password.
    """
    if not is_loopback(host) and not password:
        remedy = "set SNAKETUNE_REVIEW_PASSWORD, or leave out --host"
        raise UserError(f"--host {host}: other machines reach this address, so it needs a password", remedy=remedy)
    library = Library(paths)
    reading = [
        Route("/", page),
        Mount("/static", StaticFiles(directory=PAGE)),
        Route("/image/{path:path}", image),
        Route("/api/collections", collections),
        Route("/api/records", records),
        Route("/api/record", record),
    ]
    others = [*judging_routes.routes(library, folder), *corrections.routes(library, folder)]
    app = Starlette(
        routes=[*reading, *others],
        middleware=[
            Middleware(Guard, host=host, password=password),
            Middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY),
        ],
        exception_handlers={HTTPException: refused, UserError: faulty, Exception: failed},
    )
    app.state.library, app.state.folder = library, folder
    return app


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, which no other reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def name_of(host: str) -> str:
    """Return the name or address in a Host header; empty for an invalid one."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class Guard:
    """Middleware that refuses requests of other sites and of people without the password.

    A site can make a browser send requests here: directly (its Origin differs), or under a name of its own that leads
    to this address (DNS rebinding: the Host is not a loopback address). Elsewhere than on loopback, the password
    protects from the latter, because a browser sends it to no other name.
    """

    def __init__(self, app: ASGIApp, host: str, password: str | None):
        self.app, self.is_local, self.password = app, is_loopback(host), password

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        fault = self.fault(scope["method"], scope["path"], Headers(scope=scope))
        return await (fault or self.app)(scope, receive, send_with_headers)

    def fault(self, method: str, path: str, headers: Headers) -> Response | None:
        """Return the reply to a request that is refused."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.is_local and not is_loopback(name_of(host)):
            return Reply({"error": f"the Host '{host}' is not this machine; open http://127.0.0.1"}, 403)
        if self.password and not self.is_known(headers.get("authorization", "")):
            return Reply({"error": "the page needs its password"}, 401, {"WWW-Authenticate": 'Basic realm="review"'})
        from_site = headers.get("sec-fetch-site", "none") in ("none", "same-origin") or path == "/"
        if not from_site or (origin is not None and origin.partition("://")[2] != host):
            return Reply({"error": "the request comes from another site"}, 403)
        if method == "POST" and headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return Reply({"error": "the Content-Type has to be application/json"}, 415)
        return None

    def is_known(self, authorization: str) -> bool:
        """Whether HTTP Basic credentials have the password; any user name will do."""
        scheme, _, given = authorization.partition(" ")
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except ValueError:
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(given, self.password.encode())


def refused(request: Request, error: HTTPException) -> Response:
    """Reply to what a route refuses."""
    return Reply({"error": error.detail}, error.status_code, error.headers)


def faulty(request: Request, error: UserError) -> Response:
    """Reply to bad input, or to a request for what is not there."""
    return Reply({"error": str(error)}, 404 if isinstance(error, NotFoundError) else 400)


def failed(request: Request, error: Exception) -> Response:
    """Starlette sends this reply outside of all middleware, and then raises the error."""
    return Reply({"error": f"{type(error).__name__}: a fault of the server; its terminal says more"}, 500, HEADERS)


def page(request: Request) -> Response:
    """The page itself."""
    return FileResponse(PAGE / "index.html")


def image(request: Request) -> Response:
    """An image of a collection: /image/{id of the collection}/{name}."""
    path = request.path_params["path"]
    for name, collection in request.app.state.library.collections.items():
        if path.startswith(f"{name}/") and (found := collection.picture(path.removeprefix(f"{name}/"))):
            return FileResponse(found.path, media_type=found.type)
    raise HTTPException(404, "there is no such image")


def collections(request: Request) -> Response:
    """What is opened."""
    found = [collection.facts() for collection in request.app.state.library.collections.values()]
    folder = request.app.state.folder
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return Reply({"collections": found, "readonly": not os.access(nearest, os.W_OK)})


def records(request: Request) -> Response:
    """A part of the list of records under filters."""
    query = request.query_params
    offset, limit = number_of(query.get("offset", "0")), number_of(query.get("limit", "50"))
    library, name = request.app.state.library, query.get("collection", "")
    return Reply(library.page(name, filters_of(request), offset, min(limit, MAX_LIMIT)))


def record(request: Request) -> Response:
    """A record by its key, or by `id`, `id_variant` and `id_set`, with its neighbours under filters."""
    library, query = request.app.state.library, request.query_params
    name = query.get("collection", "")
    if "id" in query:
        key = library.key(name, query["id"], query.get("id_variant", ""), query.get("id_set", ""))
    else:
        key = number_of(query.get("key", ""))
    found, collection = library.record_at(name, key, filters_of(request)), library.collection(name)
    store, correction = request.app.state.folder, None
    if collection.dataset:
        # A store that fails says so where something is judged or corrected; reading goes on.
        with suppress(UserError, sqlite3.Error, OSError):
            correction = corrections.correction_of(store, collection.dataset, found["id"])
    return Reply({**found, "correction": correction})


def filters_of(request: Request) -> Filters:
    """Return the filters of a query."""
    query = request.query_params
    texts = {name: query.get(name, "") for name in ("label", "variant", "set", "q", "sort")}
    return Filters(**texts, errors=query.get("errors") == "1", order=query.get("order", "asc"))


def number_of(text: str) -> int:
    """Return a number of a query; status 400 for anything else."""
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise HTTPException(400, f"'{text[:40]}' is not a number")
    return int(text)
