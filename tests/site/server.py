"""A site of live commentary on loopback: lazy loading, consent, faults, robots.txt, and a log of all requests.

/results lists matches on two pages. Of the finished ones, 1 and 2 are plain, 3 answers 429 first, 4 answers 403 and 5
is in the disallowed /members/ until the site is `mended`. Part 2 of match 1 is slow, and part 1 of match 2 fails once.
Each page below /odd/ has another way to show its entries.
"""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(__file__).parent
AGENT = "snaketunetest/1.0 (+mailto:test@example.org)"
TEAMS = {
    1: "Valmont – Rives",
    2: "Corbane – Toulméric",
    3: "Rives – Corbane",
    4: "Toulméric – Rives",
    5: "Rives – Valmont",
}
LISTED = {
    1: [
        ("Terminé", "/match/1"),
        ("En direct", "/match/8"),
        ("Terminé", "/match/2"),
        ("Terminé, résumé seul", "/match/9"),
    ],
    2: [("Terminé", "/match/3"), ("Terminé", "/match/4"), ("Terminé", "/match/5")],
}
COMMENTED = '<i class="live">commenté</i>'
WORDS = ("centre", "tir", "corner", "relance", "dribble", "passe", "frappe", "tacle")
PARTS, ENTRIES = 4, 8  # of a match
MORE = '<button class=more onclick="{}">Plus</button>'
ADD = "document.querySelector('ol').insertAdjacentHTML('beforeend', '<li class=entry>12&prime; Plus.')"
CONSENT = "<button id=accept onclick=\"document.cookie = 'ok=1'; location.reload()\">Oui</button>"
ODD = {
    "disabled": MORE.format(f"{ADD}; this.disabled = true"),
    "endless": MORE.format(ADD),
    "replaces": MORE.format(
        "document.querySelectorAll('.entry').forEach(each => each.textContent = '50&prime; Autre.')"
    ),
    "leads": '<a class="more" href="?page=2">Plus</a>',
    "next": '<a class="next" href="?page=2">Suite</a>',
    "next?page=2": "",
    "reload": "",
    "reload?entry": "",
    "private": "<script>fetch('/private/1')</script>",
    "lacks": "<script>fetch('/odd/missing')</script>",
    "login": "<script>fetch('/odd/missing?login')</script>",
}


class CommentarySite:
    """The site's state: what it does wrong, what it was asked, and whether a match waits."""

    def __init__(self):
        self.log: list[tuple[float, str, str]] = []
        self.mended = self.redesigned = False
        self.waits_at: str | None = None
        self.reached = threading.Event()
        self.address = ""

    def asked(self, start: str = "") -> Counter:
        """Return how often each path that begins like this was asked for."""
        return Counter(path for _, path, _ in self.log if path.startswith(start))

    def times(self, start: str) -> list[float]:
        """Return when the paths that begin like this were asked for."""
        return [when for when, path, _ in self.log if path.startswith(start)]

    def answer(self, path: str, cookie: str = "") -> tuple[int, dict, str]:
        """Return status, headers and text of a path, which is in the log already."""
        again = self.asked()[path] > 1
        if path == self.waits_at:
            self.reached.set()
            time.sleep(60)
        if path == "/robots.txt":
            disallowed = "" if self.mended else "/members/"
            rules = f"Disallow: {disallowed}\nDisallow: /private/\nCrawl-delay: 0.2\n"
            return 200, {}, f"User-agent: snaketunetest\n{rules}"
        if (name := path.removeprefix("/odd/")) in ODD:
            reloads = name.startswith("reload")
            if reloads and "ok=1" not in cookie:
                return 200, {}, CONSENT + ("<ol><li class=entry>1' Texte.</ol>" if "entry" in name else "")
            if reloads:
                time.sleep(2.5)
            entries = "".join(f"<li class=entry>{minute}' Texte." for minute in (1, 2, 3))
            return 200, {}, f"<ol>{entries}</ol>{ODD[name]}"
        if found := re.fullmatch(r"/results(?:\?page=(\d))?", path):
            return 200, {}, self.listing(int(found[1] or 1))
        if found := re.fullmatch(r"/(match|members)/(\d)", path):
            number = int(found[2])
            if number == 3 and not again:
                return 429, {"Retry-After": "1"}, ""
            if number == 4 and not self.mended:
                return 403, {}, ""
            if found[0] == "/match/5":
                return 302, {"Location": "/members/5"}, ""
            page = (FOLDER / "match.html").read_text(encoding="utf-8")
            return 200, {}, page.replace("NAME", TEAMS[number]).replace("NUMBER", found[2])
        if found := re.fullmatch(r"/api/(\d)\?from=(\d)", path):
            number, part = int(found[1]), int(found[2])
            if (number, part) == (1, 2):
                time.sleep(1.5)
            if (number, part) == (2, 1) and not again:
                return 503, {}, ""
            entries = "".join(self.entry(number, part * ENTRIES + position) for position in range(ENTRIES))
            following = part + 1 if part + 1 < PARTS else None
            return 200, {"Content-Type": "application/json"}, json.dumps({"entries": entries, "next": following})
        return 404, {}, ""

    def listing(self, page: int) -> str:
        """Return a page of the listing."""
        items = [
            f'<li class="match"><a href="{link}">Match</a> <b>{status}</b>{COMMENTED * ("résumé" not in status)}</li>'
            for status, link in LISTED[page]
        ]
        following = '<a class="next" href="/results?page=2">Suivant</a>' if page == 1 else ""
        return f'<!doctype html><meta charset="utf-8"><ul>{"".join(items)}</ul>{following}'

    def entry(self, number: int, position: int) -> str:
        """Return an entry of a match; one of them lacks its text, and one is not closed."""
        minute = "45'+2" if position == 15 else f"{1 + 3 * position}'"
        kind = {5: "but", 11: "jaune"}.get(position, "texte")
        words = f"{WORDS[position % 8]} puis {WORDS[(position * 5 + number) % 8]}"
        text = "" if position == 7 else f"{TEAMS[number]}, {words} du numéro {position}."
        end = "" if position == 9 else "</li>"
        name = "row" if self.redesigned else "entry"
        return (
            f'<li class="{name}"><b class="time">{minute}</b><i class="icon {kind}"></i><p class="text">{text}</p>{end}'
        )


@contextmanager
def serving() -> Iterator[CommentarySite]:
    """Serve the site on a free port of loopback during the block."""
    site = CommentarySite()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            site.log.append((time.monotonic(), self.path, self.headers["User-Agent"]))
            status, headers, text = site.answer(self.path, self.headers["Cookie"] or "")
            body = text.encode()
            self.send_response(status)
            for name, value in ({"Content-Type": "text/html; charset=utf-8"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

        def handle_one_request(self):
            try:
                super().handle_one_request()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def site_section(address: str) -> dict:
    """Return the configuration's section of the site."""
    return {
        "permission": "Mail of 2026-11-02 by J. Doe, Direct: use of finished matches in tests",
        "licence_note": "written for tests " * 500,
        "user_agent": AGENT,
        "delay": 0,
        "language": "fr",
        "listing": {
            "start": [f"{address}/results"],
            "item": "li.match",
            "link": "a@href",
            "only_if": {"b": "Terminé", ".live": "commenté"},
            "next": "a.next@href",
        },
        "page": {"browser": True, "consent": "#accept"},
        "entry": {
            "item": "li.entry",
            "time": ".time",
            "text": ".text",
            "type": ".icon@class",
            "event_types": {"goal": ["icon but"], "yellow_card": ["icon jaune"], "commentary": ["icon texte"]},
        },
        "match": {"title": "h1", "date": "time@datetime"},
    }
