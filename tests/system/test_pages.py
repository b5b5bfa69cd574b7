"""Pages of a small project in Chromium: on a screen, on a phone, light, dark and in print."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request

from docs import build_site
from scripts.common.files import write_json
from scripts.train import tokenize_conversations, tokenize_spans
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines
from tests.support.entity_answers import entity_answers
from tests.support.pictures import encoded, picture
from tests.support.score_fixtures import answer_rows, babble, first_half, gate, judge_run, make_run, same
from tests.support.score_pages import write_board, write_report
from tests.support.span_data import head_settings
from tests.support.training import make_data, run_settings

SCREEN, TABLET, PHONE, PAPER = (1280, 800), (700, 900), (390, 844), (718, 1000)  # paper: A4 without its margins
VIEWS = {
    "screen": (SCREEN, "light", "screen"),
    "screen, dark": (SCREEN, "dark", "screen"),
    "tablet": (TABLET, "light", "screen"),
    "phone": (PHONE, "light", "screen"),
    "phone, dark": (PHONE, "dark", "screen"),
    "print": (PAPER, "dark", "print"),
}
TRAINING = {
    "steps": 29, "seconds": 754.2, "device": "cpu", "energy": {"joules": None, "meters": [], "missing": ["no counter"]},
}  # fmt: skip
PAGES = (
    "leaderboard.html", "runs/football/report.html", "runs/pii/report.html", "runs/titles/report.html",
    "datasets/sample/ledger.html", "chat/tokens/ledger.html", "vision/tokens/ledger.html", "spans/tokens/ledger.html",
)  # fmt: skip


def text_run(results: Path) -> None:
    """Write the report of a run with quants, gates of every outcome, and a long label."""
    variants = {"base": (babble, 60.0), "bf16": (first_half, 9.0), "q8_0": (same, 9.02), "q4_k_m": (first_half, 11.0)}
    gates = {
        "learned": gate("perplexity", "below", 0.0, baseline="base"),
        "wide": gate("length_variation", "above", 0.2),
        "good": gate(threshold=90.0, on_failure="rollback"),
        "a-name-that-is-as-long-as-those-that-people-give-to-gates": gate("parsed", "above", 0.9),
    }
    folder = make_run(results, "football", "fr", variants, gates)
    files = [folder / "gguf" / f"{quant}.gguf" for quant in list(variants)[1:]]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(9 - len(path.stem)))
    (folder / "training.json").write_text(json.dumps(TRAINING))
    more = ("--training", f"{folder}/training.json", "--gguf", *map(str, files))
    write_report(results, "football", list(variants), *more)


def image_run(results: Path) -> None:
    """Write the report of a run on images with long file names."""
    content = [{"type": "image", "image": "images/a.png"}, {"type": "text", "text": "Title?"}]
    rows = [{**row, "messages": [{"role": "user", "content": content}]} for row in answer_rows("vi")]
    judge_run(results, "titles", "vi", {"base": rows, "merged": rows})
    images = results / "datasets/titles/images"
    images.mkdir(parents=True)
    (images / "a.png").write_bytes(encoded(picture(size=(400, 300))))
    (images / "manifest.json").write_text(json.dumps({"files": {"a.png": {"origins": [f"{'page-' * 20}.png"]}}}))
    write_report(results, "titles", ["base", "merged"], "--images", str(images.parent))


def token_ledger(folder: Path, base: Path, settings: dict) -> None:
    """Write the ledger of the tokens of a small dataset into tokens/ of a folder."""
    make_data(folder, base, settings)
    step = tokenize_spans if settings["task"] == "token_classification" else tokenize_conversations
    words = [folder / "dataset", "--base", base, "--folder", folder / "tokens", "--settings", json.dumps(settings)]
    assert step.main(list(map(str, words))) == 0


@pytest.fixture(scope="module")
def results(tiny_base, tiny_vision_base, tmp_path_factory) -> Path:
    """The results of three runs and a dataset, and the tokens of each task, with their pages."""
    folder = tmp_path_factory.mktemp("work") / "results"
    token_ledger(folder / "chat", tiny_base, run_settings())
    token_ledger(folder / "vision", tiny_vision_base, run_settings(task="vision"))
    token_ledger(folder / "spans", tiny_base, head_settings())
    text_run(folder)
    image_run(folder)
    judge_run(folder, "pii", None, {"merged": entity_answers(40, 0.3)}, {"found": gate("entity_f1", threshold=0.3)})
    write_report(folder, "pii", ["merged"], method="head")
    choice = {"sweep": "football", "metric": "chrf", "chosen": "football"}
    found = {"variant": "q8_0", "value": 9.0, "low": 8.0, "high": None, "n": 9}
    values = [{"run": "football", **found, "diverged": None}, {"run": "b", **found, "diverged": "not finite"}]
    write_json(folder / "sweeps/football/choice.json", choice | {"runs": values})
    runs = {"football": ["base", "bf16", "q8_0", "q4_k_m"], "pii": ["merged"], "titles": ["base", "merged"]}
    write_board(folder, runs, sweeps=("football",), **{run: {"dataset": run} for run in runs})
    stage = Stage(folder / "datasets/sample", settings_of(label="kind"), None)
    stage.folder.mkdir(parents=True)
    rows = [chat(f"question {n}", f"{'long' * 40} {n}", kind=("goal", "card")[n % 2]) for n in range(20)]
    stage.run(write_lines(stage.folder / "raw.jsonl", [*rows, rows[0]]))
    return folder


def complaints_of(page: Page, url: str) -> list[str]:
    """Return the list to which a page's messages, errors and requests for anything but itself will be added."""
    found: list[str] = []

    def asked(request: Request) -> None:
        if request.url != url and not request.url.startswith("data:"):
            found.append(request.url)

    page.on("console", lambda message: found.append(message.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("request", asked)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_screen_a_phone_and_paper_and_asks_for_nothing_else(results, browser, name):
    url = (results / name).as_uri()
    for view, ((width, height), scheme, media) in VIEWS.items():
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        complaints = complaints_of(page, url)
        page.emulate_media(media=media)
        page.goto(url)
        for opened in ("false", "true"):
            page.evaluate(f"document.querySelectorAll('details').forEach(each => each.open = {opened})")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (view, opened)
        names = page.evaluate("[...document.querySelectorAll('*')].flatMap(each => each.getAttributeNames())")
        assert [name for name in names if not name.replace("-", "").replace(":", "").isalnum()] == []
        page.close()
        assert (view, complaints) == (view, [])


def test_rows_of_tables_are_cards_on_a_phone_only(results, browser):
    page = browser.new_page()
    page.goto((results / "leaderboard.html").as_uri())
    row = page.locator("tbody tr").first
    title = "cell => getComputedStyle(cell, '::before').content"
    for (width, height), display, shown in ((SCREEN, "table-row", "none"), (PHONE, "grid", '"run"')):
        page.set_viewport_size({"width": width, "height": height})
        assert row.evaluate("row => getComputedStyle(row).display") == display
        assert row.locator("td").nth(1).evaluate(title) == shown
    page.close()


def test_a_page_is_printed_in_dark_ink_on_white_paper(results, browser):
    page = browser.new_page(color_scheme="dark")
    page.goto((results / "leaderboard.html").as_uri())
    colours = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    ink, paper = page.evaluate(colours)
    page.emulate_media(media="print")
    assert page.evaluate(colours) == ["rgb(29, 36, 48)", "rgb(255, 255, 255)"] != [ink, paper]
    page.close()


def test_the_documentation_site_asks_for_nothing_but_its_own_files(browser, tmp_path):
    build_site.build(tmp_path / "site")
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in ("index.html", "docs/reference/metrics.html", "docs/how-to/images.html"):
        page.goto((tmp_path / "site" / name).as_uri())
        page.wait_for_timeout(300)
    assert any(url.endswith(".js") for url in asked)
    assert [url for url in asked if not url.startswith((tmp_path / "site").as_uri())] == []
    page.close()
