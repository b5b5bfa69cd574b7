"""Requests are polite: robots.txt, one at a time with a delay, retries, and no address that the site does not name."""

import email.utils
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from snakemake.exceptions import WorkflowError

from scripts.collect import collect_pages, extract_page, fetch, find_pages
from scripts.collect.fetch import FailedError, Fetcher, RefusedError
from scripts.collect.host_lock import ClosedError, turn_at
from scripts.common.files import read_json, read_jsonl
from scripts.config.sites import Site
from scripts.workflow import input_files
from tests.support.project import CONFIG

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


def fetcher(hosts=("127.0.0.1",), **keys) -> Fetcher:
    return Fetcher(Site.model_validate({**SECTION, "hosts": list(hosts), "delay": 0, **keys}))


def paths(site) -> list[str]:
    return [path for path, _ in site.log]


def test_robots_txt_is_obeyed_by_our_name_and_after_redirects(site):
    rules = b"User-agent: *\nDisallow: /\n\nUser-agent: testbot\nDisallow: /private/\n\n"
    rules += b"User-agent: reader\nDisallow: /private/\n"
    site.answers |= {"/robots.txt": (200, PLAIN, rules), "/away": (302, {"Location": "/private/1"}, b"")}
    bot = fetcher()
    assert bot.page(f"{site.address}/public").text == "page"
    for path in ("/private/1", "/away"):
        with pytest.raises(RefusedError, match=r"robots.txt disallows \S+/private/1"):
            bot.page(site.address + path)
    assert paths(site) == ["/robots.txt", "/public", "/away"]
    assert site.agents == {"testbot/1.0 (+mailto:test@example.org)"}
    reader = fetcher(user_agent="Mozilla/5.0 (compatible; reader/1.0; +https://example.org)")
    assert reader.page(f"{site.address}/public").text == "page", "its name is not the first word"


@pytest.mark.parametrize(
    ("status", "requests"), [(500, fetch.ATTEMPTS), (503, fetch.ATTEMPTS), (429, fetch.ATTEMPTS), (520, 1)]
)
def test_nothing_is_read_without_a_readable_robots_txt(site, status, requests):
    site.answers["/robots.txt"] = (status, {}, b"")
    bot = fetcher()
    for _ in range(2):
        with pytest.raises(RefusedError, match=f"robots.txt answered {status}.*nothing is read"):
            bot.page(f"{site.address}/public")
    assert paths(site) == ["/robots.txt"] * requests
    with pytest.raises(RefusedError, match=r"robots\.txt gave no answer"):
        fetcher().page("http://127.0.0.1:9/public")


def test_a_failing_answer_is_asked_for_again_when_the_site_says(site):
    soon = {"Retry-After": "1"}
    until = int(time.time()) + 3
    date = {"Retry-After": email.utils.formatdate(until, usegmt=True)}
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
    assert time.time() >= until
    for path, error in (("/down", FailedError), ("/gone", RefusedError), ("/later", ClosedError)):
        with pytest.raises(error):
            bot.page(site.address + path)
    with pytest.raises(ClosedError, match="the host asks for no requests until"):
        fetcher().page(f"{site.address}/other")
    assert [paths(site).count(path) for path in ("/down", "/gone", "/later")] == [fetch.ATTEMPTS, 1, 1]


def test_an_address_that_the_site_does_not_name_is_never_asked(site, monkeypatch):
    bot = fetcher()
    for target, message in (
        ("file:///etc/passwd", "not an address of http"),
        ("ftp://127.0.0.1/", "not an address of http"),
        ("http://localhost:1/", "another host"),
    ):
        site.answers["/away"] = (302, {"Location": target}, b"")
        with pytest.raises((RefusedError, FailedError), match=message):
            bot.page(f"{site.address}/away")
    monkeypatch.setattr(fetch.socket, "getaddrinfo", lambda host, _: [(0, 0, 0, "", (host, 0))])
    hosts = ("1.1.1.1", "127.0.0.2", "224.0.0.1", "64:ff9b::7f00:1", "64:ff9b::101:101")
    assert [fetch.is_public(host) for host in hosts] == [True, False, False, False, True]
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
with turn_at("example.org") as turn:
    turn.wait(0)
    time.sleep(0.5)
    turn.wait(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_host_is_asked_by_one_process_at_a_time_and_with_the_delay_after_a_kill():
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, env=os.environ)
    try:
        assert holder.stdout.readline() == b"held\n"
        begin = time.time()
        with turn_at("other.example.org") as turn:
            turn.wait(900)
        threading.Timer(0.2, holder.send_signal, [signal.SIGKILL]).start()
        with turn_at("example.org") as turn:
            assert 0.2 <= time.time() - begin < 600
            turn.wait(0.8)
            assert time.time() - begin >= 0.75, "0.8 s after the last request of the process that was killed"
        assert holder.wait() == -signal.SIGKILL
    finally:
        holder.kill()
        holder.wait()
    with turn_at("example.org") as turn:
        assert turn.last - begin >= 0.75


LISTED = b"<ul><li><a href='/m/1'>1</a><li><a href='/m/2'>2</a></ul>"
ENTRY_1, ENTRY_2 = (f"<li><b>{minute}'</b><p>Text</p></li>".encode() for minute in (1, 2))


def collect(program, site, *arguments, **keys) -> int:
    """Run a program for a site that needs no browser."""
    listing = {"start": [f"{site.address}/july", f"{site.address}/june"], "item": "li"}
    page = {"browser": False, "next": "a.next@href"}
    section = {**SECTION, "delay": 0, "listing": listing, "page": page, **keys}
    return program.main([*arguments, "--site", "direct", "--settings", json.dumps(section)])


def rows(site) -> dict[str, dict]:
    return {row["url"].removeprefix(site.address): row for row in read_jsonl("collected/direct/pages.jsonl")}


def test_pages_of_one_match_are_collected_together(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    site.answers |= {
        "/m/1": (302, {"Location": "/m/1-a-b"}, b""),
        "/m/1-a-b": (200, PLAIN, ENTRY_1 + b"<a class=next href='?page=2'>"),
        "/m/1-a-b?page=2": [(403, {}, b""), (200, PLAIN, ENTRY_2 + b"<a class=next href='?page=3'>")],
        "/m/1-a-b?page=3": (200, PLAIN, b"nothing more"),
    }
    arguments = [f"{site.address}/m/1", "--output", "done.json"]
    assert collect(collect_pages, site, *arguments) == 1
    assert {path: row["status"] for path, row in rows(site).items()} == {"/m/1": "failed"}
    assert collect(collect_pages, site, *arguments) == 0
    assert {row["match"] for row in rows(site).values()} == {f"{site.address}/m/1-a-b"}
    assert read_json("done.json")["matches"] == 1
    assert [record["minute"] for record in read_json("collected/direct/records.json")] == [1, 2]


def test_what_is_not_there_is_listed_and_what_failed_is_tried_again_later(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(collect_pages, "MOST_IN_A_ROW", 2)
    site.answers |= {
        "/july": (200, PLAIN, b"no match"),
        "/june": [(200, PLAIN, LISTED), (200, PLAIN, b"<li><a href='/m/5'>5</a>"), (200, PLAIN, b"redesigned")],
        **{f"/m/{number}": (403, {}, b"") for number in (1, 2)},
        **{f"/m/{number}": (200, PLAIN, ENTRY_1) for number in (3, 4)},
        "/m/5": (404, {}, b""),
    }
    find = ("--output", "found.txt")
    assert collect(find_pages, site, *find) == 0
    assert collect(collect_pages, site, "found.txt", f"{site.address}/m/3", "--output", "done.json") == 1
    assert "/m/3" not in paths(site), "after two failures in a row"
    assert collect(find_pages, site, *find) == 0
    assert Path("found.txt").read_text().split() == [f"{site.address}/m/{number}" for number in (5, 1, 2)]
    assert collect(collect_pages, site, "found.txt", f"{site.address}/m/3", "--output", "done.json") == 1
    assert "/m/3" in paths(site), "before those that failed"
    site.answers |= {f"/m/{number}": (200, PLAIN, ENTRY_1) for number in (1, 2)}
    assert collect(collect_pages, site, "found.txt", "--output", "done.json") == 0
    done = read_json("done.json")
    assert (done["pages"], done["fetched"]) == (3, 3)
    assert done["refused"] == [f"{site.address}/m/5: refused: answered 404"]
    Path("found.txt").unlink()
    assert collect(find_pages, site, *find) == 1, "no listing page has a match"
    assert not Path("found.txt").exists()


def test_a_host_that_asks_for_a_long_pause_is_left_alone(site, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    site.answers["/m/1"] = (429, {"Retry-After": "86400"}, b"")
    Path("found.txt").write_text("".join(f"{site.address}/m/{number}\n" for number in (1, 2, 3)))
    for _ in range(2):
        assert collect(collect_pages, site, "found.txt") == 1
        assert re.search(r"3 of 3 pages were not collected.*\n  3 more pages: not tried: ", capsys.readouterr().err)
    assert paths(site) == ["/robots.txt", "/m/1"]


def test_entries_that_no_selector_finds_are_found_after_its_correction(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    site.answers["/m/1"] = (200, PLAIN, ENTRY_1)
    assert collect(collect_pages, site, f"{site.address}/m/1", entry=ENTRY | {"item": "li.entry"}) == 1
    assert rows(site)["/m/1"]["status"] == "failed"
    assert collect(extract_page, site) == 0
    assert len(read_json("collected/direct/records.json")) == 1


def test_a_run_in_containers_names_the_packages_that_collecting_lacks(monkeypatch):
    monkeypatch.setattr(input_files, "find_spec", lambda name: name != "protego")
    assert input_files.ready_to_read(SimpleNamespace(in_containers=False)) == []
    with pytest.raises(WorkflowError, match=r"here is no protego: .*pip install -r envs/collect\.lock"):
        input_files.ready_to_read(SimpleNamespace(in_containers=True))


def test_the_programs_make_no_request_with_offline(site, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(CONFIG) | {"offline": True, "sites": {"direct": SECTION | {"hosts": ["127.0.0.1"]}}}
    config["sites"]["direct"]["delay"] = 0
    Path("config.yaml").write_text(yaml.safe_dump(config))
    options = ["--site", "direct", "--configfile", "config.yaml"]
    assert collect_pages.main([f"{site.address}/m/1", *options]) == 1
    assert "nothing is collected with 'offline: true'" in capsys.readouterr().err
    assert not site.log
