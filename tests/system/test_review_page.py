"""The review page in Chromium: reading, judging and correcting, by keys, on a screen and a phone, light and dark.

SNAKETUNE_PICTURES=docs/images pytest tests/system/test_review_page.py -k picture    writes the pictures of docs/.
"""

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from docs.picture import shrink
from tests.support.data import load
from tests.support.review_results import ASTRAL, PAYLOADS, served, write_hostile, write_results

SCREEN, PHONE = (1280, 800), (390, 844)
AXE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
LARGEST = 150_000  # bytes of a picture
RECORD = "#/record/run/captions/{:016x}/{}/test"
# The elements and attributes of what is judged: without the prompt, all texts, and what the number of the task changes.
SKELETON = """() => {
  const copy = document.querySelector('#view').cloneNode(true);
  const texts = document.createTreeWalker(copy, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = '';
  copy.querySelector(':scope > .card').replaceChildren();
  copy.querySelector('progress').removeAttribute('value');
  copy.querySelector('.progress button').removeAttribute('disabled');
  return copy.outerHTML;
}"""


LOADED = "[...document.images].every(image => image.complete)"


class Reader:
    """A reader's browser: opens views, and collects what goes wrong."""

    def __init__(self, browser: Browser, address: str, name: str = "Anna", size=SCREEN, scheme: str = "light"):
        stored = [{"name": "snaketune-review-reader", "value": name}]
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            storage_state={"cookies": [], "origins": [{"origin": address, "localStorage": stored}]},
        )
        self.page: Page = self.context.new_page()
        self.address, self.complaints, self.requests = address, [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", self.asked)

    def asked(self, request) -> None:
        if not request.url.startswith(self.address):
            self.complaints.append(request.url)
        self.requests.append((request.method, request.url.removeprefix(self.address), request.post_data))

    def open(self, view: str) -> Page:
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}/{view}")
        expect(self.page.locator("#view h1")).to_be_visible()
        return self.page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def forget_failed_requests(self) -> None:
        """Forget what the browser itself says of them, where a test makes them fail."""
        self.complaints = [text for text in self.complaints if not text.startswith("Failed to load resource")]

    def title(self, text: str) -> None:
        expect(self.page.locator("#view h1")).to_have_text(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("review")


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    paths = [write_results(folder / "results"), write_hostile(folder / "hostile.jsonl")]
    with served(paths, folder / "judgements") as address:
        yield address


@pytest.fixture
def reader(browser, address) -> Iterator[Reader]:
    reader = Reader(browser, address)
    yield reader
    assert reader.complaints == []
    reader.context.close()


def votes(folder: Path, study: str) -> list[dict]:
    """Return what the votes of a study say, as they are stored."""
    query = "SELECT value FROM vote JOIN task ON task.id = vote.task WHERE study = ?"
    with closing(sqlite3.connect(folder / "judgements/judgements.sqlite")) as connection:
        return [json.loads(value) for (value,) in connection.execute(query, [study])]


def start_study(reader: Reader, kind: str, **fields: str) -> str:
    """Start a study with the form; return its id."""
    page = reader.open("#/judge")
    page.locator(f"input[value={kind}]").check()
    for name, value in fields.items():
        control = page.locator(f"[name={name}]")
        control.select_option(value) if name in ("left", "right") else control.fill(value)
    expect(page.locator("form .notice")).to_contain_text("judgements needed")
    expect(page.locator("form .notice")).to_contain_text("There are only 12 records to judge")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("progress")).to_be_visible()
    return page.url.rpartition("/")[2]


@pytest.fixture(scope="module")
def views(browser, address) -> dict[str, str]:
    """The addresses of the main views; those of judging have a study of each kind."""
    reader = Reader(browser, address, "Viewer")
    kinds = {"rating": {}, "pair": {"right": "captions/base"}, "human_test": {}}
    studies = {
        kind: start_study(reader, kind, left="captions/q4_k_m", records="10", **more) for kind, more in kinds.items()
    }
    judged = start_study(reader, "human_test", left="captions/q4_k_m", records="1")
    reader.press("p")
    expect(reader.page.locator("#view")).to_contain_text("Thank you")
    reader.open(RECORD.format(4, "base"))
    reader.press("x", "Enter")
    expect(reader.page.locator(".notice")).to_contain_text("Marked as bad")
    reader.context.close()
    return {
        "collections": "#/",
        "records": "#/records/run/captions?errors=1&sort=chrf&order=asc",
        "record": RECORD.format(0, "q4_k_m"),
        "entities": "#/record/run/pii/0000000000000001/merged/test",
        "image": "#/record/dataset/pages/test/0000000000000000",
        "quarantine": "#/record/dataset/captions/quarantine?key=0",
        "studies": "#/judge",
        **{kind: f"#/judge/{study}" for kind, study in studies.items()},
        "results": f"#/results/{judged}",
        "corrections": "#/corrections",
    }


def wait_until_loaded(page: Page) -> None:
    """Wait until all images are there; `wait_for_function` needs eval, which the page's policy forbids."""
    end = time.monotonic() + 60
    while not page.evaluate(LOADED):
        assert time.monotonic() < end, "the images were not loaded"
        page.wait_for_timeout(50)


@pytest.mark.parametrize(("size", "scheme"), [(SCREEN, "light"), (PHONE, "dark")], ids=["screen", "phone, dark"])
def test_every_view_fits_and_axe_finds_nothing(browser, address, views, size, scheme):
    reader = Reader(browser, address, "Viewer", size, scheme)
    for name, view in views.items():
        page = reader.open(view)
        wait_until_loaded(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], name
        found = Axe().run(page, options=AXE)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
    assert reader.complaints == []
    reader.context.close()


PICTURES = {
    "record": (SCREEN, "light"),
    "entities": (SCREEN, "light"),
    "pair": ((1280, 400), "light"),
    "records": (PHONE, "dark"),
}


@pytest.mark.parametrize("view", PICTURES)
def test_picture(browser, address, views, view, tmp_path):
    size, scheme = PICTURES[view]
    reader = Reader(browser, address, "Viewer", size, scheme)
    wait_until_loaded(reader.open(views[view]))
    reader.page.screenshot(path=tmp_path / "whole.png")
    reader.context.close()
    target = Path(os.environ.get("SNAKETUNE_PICTURES", tmp_path)) / f"review-{view}.png"
    assert shrink(tmp_path / "whole.png", target) < LARGEST


def test_records_are_read_by_keys(reader):
    page = reader.open("#/")
    reader.press("1")
    reader.title("captions: answers")
    reader.press("j")
    first = load("review.yaml")["captions"][0]["base"]
    expect(page.locator(".turn.wanted .text")).to_have_attribute("lang", "en")
    expect(page.locator("#rows [aria-current] .excerpt")).to_have_text(first)
    reader.title("Record 0000000000000000")
    assert not page.locator("details.system").evaluate("each => each.open")
    reader.press("s")
    assert page.locator("details.system").evaluate("each => each.open")
    reader.press("j")
    reader.title("Record 0000000000000001")
    reader.press("v")
    expect(page.locator(".turn.wanted + .turn .who")).to_have_text("q4_k_m")
    expect(page.locator(".turn.wanted + .turn ins").first).to_be_visible()
    reader.press("d")
    expect(page.locator(".turn.wanted + .turn ins")).to_have_count(0)
    reader.press("d", "ArrowLeft")
    reader.title("Record 0000000000000000")
    reader.press("u", "/")
    page.keyboard.type("🦒")
    expect(page.locator("#count")).to_contain_text("has no word to look for")
    reader.forget_failed_requests()
    reader.press("Backspace")
    page.keyboard.type("giraffe")
    expect(page.locator("#count")).to_have_text("1 to 2 of 2")
    reader.press("Escape", "j")
    expect(page.locator(".turn.wanted")).to_contain_text("giraffe")
    reader.press("?")
    expect(page.locator("#keys")).to_contain_text("errors only")
    page.locator("#keys-on").uncheck()
    reader.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    reader.press("u")
    assert "#/record/" in page.url, "single keys are turned off"


def test_the_address_of_a_record_leads_to_it_and_to_its_neighbours_under_the_filters(reader):
    page = reader.open("#/records/run/captions?variant=q4_k_m&sort=chrf&order=desc")
    scores = page.locator("#rows .facts").all_inner_texts()
    values = [float(re.search(r"chrF ([\d.]+)", text)[1]) for text in scores]
    assert values == sorted(values, reverse=True)
    reader.press("j")
    expect(page.locator(".tools").first).to_contain_text("1 of 12")
    reader.press("j")
    expect(page.locator(".tools").first).to_contain_text("2 of 12")
    address, title = page.url, page.locator("#view h1").inner_text()
    reader.open(address.removeprefix(reader.address).lstrip("/"))
    reader.title(title)
    expect(page.locator(".tools").first).to_contain_text("2 of 12")
    reader.press("v")
    expect(page.locator(".turn.wanted + .turn .who")).to_have_text("base")
    expect(page.locator(".tools").first).to_contain_text("not among the filtered")


def test_texts_of_records_are_never_markup_or_addresses(reader):
    page = reader.open("#/records/file/1")
    for place, text in enumerate(PAYLOADS):
        reader.press("j")
        reader.title(f"Record {text}/{place}?#%2e")
        expect(page.locator("#view .turn.wanted")).to_contain_text(text)
        stable = page.get_by_role("link", name="Link to this record").get_attribute("href")
        reader.open(stable)
        reader.title(f"Record {text}/{place}?#%2e")
        found = page.locator("script, iframe, base, style, main svg, main img, [onerror], [onload], [href^=javascript]")
        assert found.evaluate_all("found => found.map(each => each.outerHTML)") == [
            '<script type="module" src="/static/review.js"></script>'
        ]


def test_entities_are_marked_at_code_points(reader):
    page = reader.open("#/record/file/1?key=6")
    marks = page.locator(".entities mark")
    assert marks.all_inner_texts() == ["Ann", "met ", "Bob"]
    assert [kind.split() for kind in marks.evaluate_all("marks => marks.map(mark => mark.className)")] == [
        ["gold", "found"], ["found"], ["gold", "found"],
    ]  # fmt: skip
    assert page.locator(".tag").all_inner_texts() == ["✔ <i>P</i>", "expected: PERSON", "✘ found: PERSON"]
    page.locator(".tag").evaluate_all("tags => tags.forEach(tag => tag.remove())")
    assert page.locator(".entities").inner_text() == ASTRAL


def test_an_image_can_be_enlarged(reader, views):
    page = reader.open(views["image"])
    reader.press("z")
    image = page.locator("#zoom img")
    fitting = image.bounding_box()
    reader.press("+")
    assert image.bounding_box()["width"] > fitting["width"]
    reader.press("Escape")
    expect(page.locator("#zoom")).to_be_hidden()


def test_pairs_are_judged_by_keys_and_nothing_tells_the_side(reader, folder):
    study = start_study(reader, "pair", left="captions/q4_k_m", right="captions/base", records="10", overlap="0")
    page, ours = reader.page, {row["q4_k_m"] for row in load("review.yaml")["captions"]}
    skeletons, keys, requests, choices = set(), [], [], set()
    reader.requests.clear()
    total = int(page.locator("progress").get_attribute("max"))
    for done in range(total):
        expect(page.locator(".progress")).to_contain_text(f"{done} of {total}")
        skeletons.add(page.evaluate(SKELETON))
        assert not re.search("q4_k_m|base", page.content())
        first = page.locator(".texts .text[lang=en]").first.inner_text()
        key = "a" if first in ours else "b"
        page.keyboard.down(key)
        keys.append(key)
        expect(page.locator("#view")).to_contain_text(f"{done + 1} of {total}")
        page.keyboard.down(key)  # a held key, which must not judge the next text
        page.keyboard.up(key)
    expect(page.locator("#view")).to_contain_text("Thank you")
    assert len(skeletons) == 1
    assert set(keys) == {"a", "b"}, "both orders are shown"
    for method, path, body in reader.requests:
        requests.append((method, re.sub("task=[^&]*", "", path)))
        choices |= set(json.loads(body)) if body else set()
    assert set(requests) == {("POST", "/api/votes"), ("GET", f"/api/task?study={study}&reader=Anna")}
    assert choices == {"task", "reader", "choice"}
    assert [vote["won"] for vote in votes(folder, study)] == [1.0] * total

    reader.press("u")
    expect(page.locator(".progress")).to_contain_text(f"{total - 1} of {total}")
    assert len(votes(folder, study)) == total - 1
    page = reader.open(f"#/results/{study}")
    expect(page.get_by_role("alert")).to_contain_text(f"judged {total - 1} of {total} texts")
    reader.title("Not yet")
    reader.forget_failed_requests()
    page = reader.open(f"#/judge/{study}")
    reader.press("a" if page.locator(".texts .text").first.inner_text() in ours else "b")
    page.get_by_role("link", name="The results").click()
    expect(page.locator("#view table").first).to_contain_text("100 %")
    expect(page.locator("#view .lead")).to_contain_text("not measured")


def test_a_rating_is_given_by_keys(reader, folder):
    study = start_study(reader, "rating", left="captions/q4_k_m", records="12")
    page, done = reader.page, 0
    while not page.locator("details.system").count():
        reader.press("p", "Enter")
        done += 1
        expect(page.locator(".progress")).to_contain_text(f"{done} of")
    reader.press("f", "2")
    assert not page.locator("details.system").evaluate("each => each.open")
    reader.press("s", "c")
    assert page.locator("details.system").evaluate("each => each.open")
    page.keyboard.type("no verb")
    reader.press("Enter")
    expect(page.locator(".progress")).to_contain_text(f"{done + 1} of")
    assert votes(folder, study)[-1] == {"passed": False, "stars": 2, "comment": "no verb"}


def test_a_vote_whose_reply_was_lost_is_not_asked_for_again(reader, folder):
    study = start_study(reader, "human_test", left="captions/q4_k_m", records="4")
    page = reader.page
    page.route("**/api/votes", lambda route: (route.fetch(), route.abort()))
    reader.press("p")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    page.unroute("**/api/votes")
    reader.press("m")
    expect(page.locator(".progress")).to_contain_text("1 of")
    assert [vote["said_person"] for vote in votes(folder, study)] == [True]
    reader.forget_failed_requests()


def test_a_reader_without_a_name_is_asked_for_it(browser, address, views):
    reader = Reader(browser, address, "")
    page = reader.open(views["pair"])
    expect(page.get_by_role("alert")).to_contain_text("Type your name first")
    expect(page.locator("#reader")).to_be_focused()
    page.keyboard.type("Bao")
    reader.press("Enter")
    expect(page.locator("progress")).to_be_visible()
    reader.context.close()


def test_a_correction_is_proposed_accepted_and_exported(reader, folder):
    page = reader.open("#/record/dataset/captions/test/0000000000000002")
    reader.press("c")
    page.locator("textarea").fill("Standing room only!")
    page.locator("[name=comment]").fill("shorter")
    reader.press("Enter")
    expect(page.locator(".notice")).to_contain_text("Corrected, proposed")
    page = reader.open("#/corrections")
    card = page.locator(".proposal", has_text="Standing room only!")
    while card.get_attribute("aria-current") is None:
        reader.press("j")
    reader.press("a")
    expect(page.locator("summary")).to_contain_text("Accepted (1)")
    page.route("**/api/export", lambda route: route.fulfill(json={"files": []}), times=1)
    page.get_by_role("button", name="Write the files").click()
    expect(page.locator(".files")).to_have_text("Nothing to write yet.")
    page.get_by_role("button", name="Write the files").click()
    expect(page.locator(".files")).to_contain_text("corrections.jsonl")
    (row,) = map(json.loads, (folder / "judgements/corrections.jsonl").read_text().splitlines())
    assert (row["record"], row["text"], row["accepted_by"]) == (f"{2:016x}", "Standing room only!", "Anna")
    page.locator("summary").click()
    page.locator("details").get_by_role("button", name="Reject").click()
    expect(page.locator("summary")).to_contain_text("Rejected (1)")
    page.get_by_role("button", name="Write the files").click()
    expect(page.locator(".files")).to_contain_text("corrections.jsonl 0 rows")
    page.locator("summary").click()
    page.locator("details").get_by_role("button", name="Accept").click()
    expect(page.locator("summary")).to_contain_text("Accepted (1)")


def test_answers_to_other_prompts_than_the_test_splits_have_no_corrections(reader):
    page = reader.open(RECORD.format(5, "base"))
    expect(page.get_by_role("button", name="Mark as bad")).to_be_visible()

    def of_another_set(route):
        reply = route.fetch()
        route.fulfill(response=reply, json=reply.json() | {"set": "probes"})

    page.route("**/api/record?*", of_another_set)
    page = reader.open(RECORD.format(5, "base"))
    expect(page.get_by_role("button", name="Mark as bad")).to_have_count(0)
    reader.press("x")
    expect(page.locator("form.card")).to_have_count(0)
