"""A server that streams chosen answers as llama-server does: `python fake_server.py PORT`, started by serve.sh.

A question asks for what happens: `say TEXT~MORE`, `send DATA` (as it is), `end REASON` (the finish reason), `leak MB`,
`status 500`, `wait SECONDS`, `limit TOKENS` (status 400 with another `max_tokens`) or `crash`.
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LEAKED = []
# A soak starts it without the cache of prompts, whose growth would look like a leak.
SERVE = f'#!/bin/sh\n[ "$*" = "--cache-ram 0" ] || exit 2\nexec {sys.executable} {Path(__file__).resolve()} $PORT\n'


class Handler(BaseHTTPRequestHandler):
    """Answers /health and chat completions."""

    def log_message(self, *_) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Be healthy."""
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        """Do what the question asks for."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what, _, value = body["messages"][-1]["content"].partition(" ")
        if what == "crash":
            os._exit(3)
        if what == "wait":
            time.sleep(float(value))
        key = os.environ.get("LLAMA_API_KEY")
        if key and self.headers["Authorization"] != f"Bearer {key}":
            what, value = "status", "401"
        if what == "limit" and body["max_tokens"] != int(value):
            what, value = "status", "400"
        if what == "leak":
            LEAKED.append(b"x" * int(value) * 2**20)
        self.send_response(int(value) if what == "status" else 200)
        self.end_headers()
        if what == "send":
            self.send(value)
        for piece in value.split("~") if what == "say" else ["Goal!"]:
            self.send(json.dumps({"choices": [{"delta": {"content": piece}, "finish_reason": None}]}))
            time.sleep(0.02)
        reason = value if what == "end" else "stop"
        self.send(json.dumps({"choices": [{"delta": {}, "finish_reason": reason}]}))
        self.send(json.dumps({"choices": [], "usage": {}}))
        self.send("[DONE]")

    def send(self, data: str) -> None:
        """Send one event."""
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
