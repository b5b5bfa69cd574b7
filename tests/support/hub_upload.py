"""A small server that speaks what the Hugging Face hub's client asks for to deliver files to a model, on loopback.

It was written from the client's own code, and never compared with the real hub. Files of `LARGE` bytes go the way of
Git LFS, others are in the commit itself. A token other than `token` is refused.
"""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = 10_000
SIGNATURE = "X-Signature=secret"


class UploadHub(ThreadingHTTPServer):
    """Has repositories by their name: `private`, `commits` (message and description) and `files`.

    `stored_for` has the authorization of each upload to the store of large files, which may belong to others. The
    `fault` of that store, whose addresses carry a `SIGNATURE`, is "cut off" in the middle of an upload, or "expired".
    """

    def __init__(self, token: str):
        self.token, self.repositories, self.stored, self.stored_for = token, {}, {}, []
        self.fault: str | None = None
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "UploadHub":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()

    def commit(self, name: str, lines: list[dict]) -> dict:
        """Apply the lines of a commit; return its hash and address."""
        repository = self.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                repository["commits"].append((value["summary"], value["description"]))
            elif line["key"] == "file":
                repository["files"][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository["files"][value["path"]] = self.stored[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del repository["files"][value["path"]]
        return {"commitOid": self.last(name), "commitUrl": f"{self.url}/{name}/commit/{self.last(name)}"}

    def last(self, name: str) -> str:
        """Return the hash of a repository's last commit."""
        return hashlib.sha1(repr(self.repositories[name]["commits"]).encode(), usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        """Say nothing."""

    def answer(self, status: int, value: dict | None = None, **headers: str) -> None:
        content = json.dumps(value or {}).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        hub, path = self.server, self.path.split("?")[0]
        if hub.fault == "cut off" and path.startswith("/store/"):
            self.rfile.read(LARGE // 2)
            self.close_connection = True
            return None
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sender = self.headers.get("Authorization")
        if path.startswith("/store/"):
            if hub.fault:
                return self.answer(410)
            hub.stored_for.append(sender)
            hub.stored[hashlib.sha256(content).hexdigest()] = content
            return self.answer(200)
        if sender != f"Bearer {hub.token}":
            return self.answer(401, {"error": "Invalid credentials in Authorization header"})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            status = 409 if name in hub.repositories else 200
            new = {
                "private": asked["visibility"] == "private",
                "commits": ["initial"],
                "files": {".gitattributes": b""},
            }
            hub.repositories.setdefault(name, new)
            return self.answer(status, {"url": f"{hub.url}/{name}"})
        place = path.removeprefix("/api/models").removesuffix(".git/info/lfs/objects/batch")
        name = "/".join(place.split("/")[1:3])
        repository = hub.repositories[name]
        if path.endswith("/preupload/main"):
            files = json.loads(content)["files"]
            files = [{"path": file["path"], "large": file["size"] >= LARGE} for file in files]
            files = [file | {"uploadMode": ("regular", "lfs")[file["large"]], "shouldIgnore": False} for file in files]
            return self.answer(200, {"files": files})
        if path.endswith("/lfs/objects/batch"):
            objects = json.loads(content)["objects"]
            for one in objects:
                if one["oid"] not in hub.stored:
                    one["actions"] = {"upload": {"href": f"{hub.url}/store/{one['oid']}?{SIGNATURE}"}}
            return self.answer(200, {"transfer": "basic", "objects": objects})
        if path.endswith("/commit/main"):
            return self.answer(200, hub.commit(name, [json.loads(line) for line in content.splitlines()]))
        facts = {"id": name, "private": repository["private"], "sha": hub.last(name)}
        return self.answer(200, facts | {"siblings": [{"rfilename": file} for file in repository["files"]]})

    def do_GET(self) -> None:
        self.do_POST()

    def do_PUT(self) -> None:
        self.do_POST()
