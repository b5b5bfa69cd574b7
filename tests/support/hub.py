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

    `asked` lists the names and ranges of contents that were asked for, `authorizations` each request's path and header.
    """

    def __init__(self, folder: Path, repository: str, revision: str, break_after=None, store=None, kind="model"):
        self.folder, self.repository, self.revision, self.kind = folder, repository, revision, kind
        self.break_after, self.store = break_after, store
        self.asked: list[tuple[str, str | None]] = []
        self.authorizations: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

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

    def do_GET(self) -> None:
        hub, path = self.server, self.path.split("?")[0]
        hub.authorizations.append((path, self.headers.get("Authorization")))
        files = {str(f.relative_to(hub.folder)): f.read_bytes() for f in sorted(hub.folder.rglob("*")) if f.is_file()}
        place = f"/datasets/{hub.repository}" if hub.kind == "dataset" else f"/{hub.repository}"
        api, resolve = f"/api/{hub.kind}s/{hub.repository}", f"{place}/resolve/{hub.revision}/"
        name = path.removeprefix(resolve)
        if path == f"{api}/revision/{hub.revision}":
            self.send_json({"id": hub.repository, "sha": hub.revision, "siblings": [{"rfilename": n} for n in files]})
        elif path == f"{api}/tree/{hub.revision}":
            facts = {"type": "file", "oid": "0" * 40}
            self.send_json([{"path": name, "size": len(content), **facts} for name, content in files.items()])
        elif path.startswith(resolve) and name in files:
            self.send_file(files[name], name)
        else:
            self.send(404, {"X-Error-Code": "RepoNotFound", "Content-Length": 0})

    def do_HEAD(self) -> None:
        self.do_GET()

    def send(self, status: int, headers: dict, content: bytes = b"") -> None:
        """Send an answer, of which a HEAD request gets no content."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def send_json(self, value) -> None:
        content = json.dumps(value).encode()
        self.send(200, {"Content-Type": "application/json", "Content-Length": len(content)}, content)

    def send_file(self, content: bytes, name: str) -> None:
        hub, tag, size = self.server, f'"{hashlib.sha256(content).hexdigest()}"', len(content)
        headers = {"X-Repo-Commit": hub.revision}
        if hub.store:  # the hub says where a large file is
            linked = {"X-Linked-ETag": tag, "X-Linked-Size": size, "Content-Length": 0}
            self.send(302, {**headers, **linked, "Location": hub.store + self.path})
            return
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        headers |= {"ETag": tag, "Accept-Ranges": "bytes", "Content-Length": size - start}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        end = size
        if self.command == "GET":
            hub.asked.append((name, wanted))
            if hub.break_after is not None and size > hub.break_after:
                end, hub.break_after, self.close_connection = start + hub.break_after, None, True
        self.send(206 if wanted else 200, headers, content[start:end])
