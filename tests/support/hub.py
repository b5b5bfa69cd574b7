"""A small server that speaks the Hugging Face hub's download protocol, for one folder, on loopback.

It is the other end of the wire for the real client: repository information, file listing, HEAD and ranged GET of files.
`break_after` cuts the connection off after so many bytes of a file that is longer, once. `store` is the address of
another server that has the files' contents, as the hub's own is: then a file is answered with its place there.
"""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hub(ThreadingHTTPServer):
    """Serves a folder as the model (or dataset) `repository` at the commit `revision`.

    `asked` lists what content was asked for, `authorizations` the path of each request and what it came with to say who
    asks, if anything.
    """

    def __init__(
        self,
        folder: Path,
        repository: str,
        revision: str,
        break_after: int | None = None,
        store: str | None = None,
        kind: str = "model",
    ):
        self.folder, self.repository, self.revision, self.kind = folder, repository, revision, kind
        self.break_after, self.store = break_after, store
        self.asked: list[tuple[str, str | None]] = []
        self.authorizations: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_) -> None:
        """Clients that go away are part of the test."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        hub, path = self.server, self.path.split("?")[0]
        hub.authorizations.append((path, self.headers.get("Authorization")))
        files = {str(f.relative_to(hub.folder)): f for f in sorted(hub.folder.rglob("*")) if f.is_file()}
        place = f"/datasets/{hub.repository}" if hub.kind == "dataset" else f"/{hub.repository}"
        api, resolve = f"/api/{hub.kind}s/{hub.repository}", f"{place}/resolve/{hub.revision}/"
        if path == f"{api}/revision/{hub.revision}":
            siblings = [{"rfilename": name} for name in files]
            self.send_json({"id": hub.repository, "sha": hub.revision, "siblings": siblings}, body)
        elif path == f"{api}/tree/{hub.revision}":
            self.send_json(
                [{"type": "file", "path": n, "size": f.stat().st_size, "oid": "0" * 40} for n, f in files.items()], body
            )
        elif path.startswith(resolve) and path.removeprefix(resolve) in files:
            self.send_file(files[path.removeprefix(resolve)], path.removeprefix(resolve), body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def send_json(self, value, body: bool) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def send_place(self, address: str, content: bytes) -> None:
        """Answer a question for a file with where it is, as the hub does with large ones."""
        self.send_response(302)
        self.send_header("Location", address)
        self.send_header("X-Linked-ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("X-Repo-Commit", self.server.revision)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_file(self, file: Path, name: str, body: bool) -> None:
        hub, content = self.server, file.read_bytes()
        if hub.store:
            self.send_place(hub.store + self.path, content)
            return
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", hub.revision)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        hub.asked.append((name, wanted))
        if hub.break_after is not None and len(content) > hub.break_after:
            end, hub.break_after = start + hub.break_after, None
            self.wfile.write(content[start:end])
            self.close_connection = True
            return
        self.wfile.write(content[start:])
