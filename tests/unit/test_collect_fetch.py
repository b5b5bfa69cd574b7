"""Requests are polite: robots.txt, one at a time with a delay, retries, and no address that the site does not name."""

import email.utils
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from scripts.collect import fetch
from scripts.collect.fetch import FailedError, Fetcher, RefusedError
from scripts.collect.host_lock import turn_at
from scripts.config.sites import Site

PLAIN = {"Content-Type": "text/html"}
ENTRY = {"item": "li", "time": "b", "text": "p"}
SECTION = {
    "permission": "Mail of 2026-11-02 by J. Doe: research use of finished matches",
    "licence_note": "CC0-1.0",
    "user_agent": "testbot/1.0 (+mailto:test@example.org)",
    "entry": ENTRY,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fetch, "FIRST_WAIT", 0.01)


@pytest.fixture
def site() -> Iterator[SimpleNamespace]:
    """A server whose answers the test writes: path to (status, headers, body), or a list of them, one for each try."""
    site = SimpleNamespace(answers={"/robots.txt": (404, {}, b"")}, log=[], agents=set())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            site.log.append((self.path, time.monotonic()))
            site.agents.add(self.headers["User-Agent"])
            found = site.answers.get(self.path, (200, PLAIN, b"page"))
            status, headers, body = found.pop(0) if isinstance(found, list) else found
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    server.server_close()


def fetcher(hosts=("127.0.0.1",), delay=0.0) -> Fetcher:
    return Fetcher(Site.model_validate({**SECTION, "hosts": list(hosts), "delay": delay}))


def paths(site) -> list[str]:
    return [path for path, _ in site.log]


def test_robots_txt_is_obeyed_by_our_name_and_after_redirects(site):
    rules = b"User-agent: *\nDisallow: /\n\nUser-agent: testbot\nDisallow: /private/\n"
    site.answers |= {"/robots.txt": (200, PLAIN, rules), "/away": (302, {"Location": "/private/1"}, b"")}
    bot = fetcher()
    assert bot.page(f"{site.address}/public").text == "page"
    for path in ("/private/1", "/away"):
        with pytest.raises(RefusedError, match=r"robots.txt disallows \S+/private/1"):
            bot.page(site.address + path)
    assert paths(site) == ["/robots.txt", "/public", "/away"]
    assert site.agents == {"testbot/1.0 (+mailto:test@example.org)"}


@pytest.mark.parametrize("status", [500, 503, 429])
def test_nothing_is_read_without_a_readable_robots_txt(site, status):
    site.answers["/robots.txt"] = (status, {}, b"")
    bot = fetcher()
    for _ in range(2):
        with pytest.raises(RefusedError, match=f"robots.txt answered {status}.*nothing is read"):
            bot.page(f"{site.address}/public")
    assert paths(site) == ["/robots.txt"] * fetch.ATTEMPTS
    with pytest.raises(RefusedError, match=r"robots\.txt gave no answer"):
        fetcher().page("http://127.0.0.1:9/public")


def test_a_failing_answer_is_asked_for_again_when_the_site_says(site):
    soon = {"Retry-After": "1"}
    date = {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)}
    site.answers |= {
        "/busy": [(429, soon, b""), (503, date, b""), (200, PLAIN, b"at last")],
        "/down": (502, {}, b""),
        "/gone": (410, {}, b""),
        "/later": (429, {"Retry-After": "86400"}, b""),
    }
    bot = fetcher()
    assert bot.page(f"{site.address}/busy").text == "at last"
    times = [when for path, when in site.log if path == "/busy"]
    assert times[1] - times[0] >= 1
    for path, message in (("/down", "answered 502"), ("/gone", "answered 410"), ("/later", "asks for 86400 s")):
        with pytest.raises(FailedError, match=message):
            bot.page(site.address + path)
    assert [paths(site).count(path) for path in ("/down", "/gone", "/later")] == [fetch.ATTEMPTS, 1, 1]


def test_an_address_that_the_site_does_not_name_is_never_asked(site):
    bot = fetcher()
    for target, message in (
        ("file:///etc/passwd", "not an address of http"),
        ("ftp://127.0.0.1/", "not an address of http"),
        ("http://localhost:1/", "another host"),
    ):
        site.answers["/away"] = (302, {"Location": target}, b"")
        with pytest.raises((RefusedError, FailedError), match=message):
            bot.page(f"{site.address}/away")
    public = fetcher(hosts=("192.0.2.1",))
    inner = public.client.build_request("GET", site.address)
    with pytest.raises(RefusedError, match="on a private network"):
        public.answer(inner)
    assert set(paths(site)) == {"/robots.txt", "/away"}


def test_an_endless_or_too_large_answer_ends(site, monkeypatch):
    monkeypatch.setattr(fetch, "MOST_BYTES", 1000)
    site.answers |= {"/round": (302, {"Location": "/round"}, b""), "/large": (200, PLAIN, b"x" * 2000)}
    bot = fetcher()
    for path, message in (("/round", "redirects more than 5 times"), ("/large", "has more than")):
        with pytest.raises(FailedError, match=message):
            bot.page(site.address + path)


def test_the_encoding_is_that_of_the_header_or_of_the_page(site):
    latin = "<meta charset='iso-8859-1'>Égalité".encode("latin-1")
    site.answers |= {
        "/meta": (200, PLAIN, latin),
        "/header": (200, {"Content-Type": "text/html; charset=latin1"}, "Égalité".encode("latin-1")),
        "/none": (200, PLAIN, "Égalité".encode()),
        "/unknown": (200, {"Content-Type": "text/html; charset=x"}, "Égalité".encode()),
    }
    bot = fetcher()
    assert [bot.page(site.address + path).text[-7:] for path in ("/meta", "/header", "/none", "/unknown")] == [
        "Égalité"
    ] * 4


def test_the_longer_of_our_delay_and_the_crawl_delay_lies_between_two_requests(site):
    site.answers["/robots.txt"] = (200, PLAIN, b"User-agent: testbot\nCrawl-delay: 0.3\n")
    bot = fetcher(delay=0.1)
    for path in ("/1", "/2"):
        bot.page(site.address + path)
    times = [when for _, when in site.log]
    assert times[1] - times[0] >= 0.3
    assert times[2] - times[1] >= 0.3


HOLDER = """
import sys, time
from scripts.collect.host_lock import turn_at
with turn_at("example.org", 0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_host_is_asked_by_one_process_at_a_time_and_with_the_delay_after_a_kill():
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, env=os.environ)
    try:
        assert holder.stdout.readline() == b"held\n"
        with turn_at("other.example.org", 5):
            pass
        threading.Timer(0.5, holder.send_signal, [signal.SIGKILL]).start()
        begin = time.time()
        with turn_at("example.org", 0.8):
            waited = time.time() - begin
        assert holder.wait() == -signal.SIGKILL
        assert waited >= 0.5
    finally:
        holder.kill()
        holder.wait()
    begin = time.time()
    with turn_at("example.org", 0.4):
        assert time.time() - begin >= 0.39
