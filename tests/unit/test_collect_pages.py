"""Saved pages of three sites become records that the football recipe reads; what is malformed is named, not lost."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from scripts.collect import extract_page
from scripts.collect.extract_page import extract_folder, read_page
from scripts.collect.listing import read_listing
from scripts.collect.matches import by_match, coverage
from scripts.collect.minutes import minute_of
from scripts.common.errors import UserError
from scripts.common.files import read_json, read_jsonl, write_jsonl
from scripts.config.datasets import Check
from scripts.config.sites import Coverage, Site
from tests.support.data import load
from tests.support.dataset_steps import Stage, settings_of

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "tests/pages"
TABLE = load("collect.yaml")
SECTIONS = yaml.safe_load((PAGES / "sites.yaml").read_text(encoding="utf-8"))["sites"]
EXAMPLES = re.findall(r"(?ms)^```yaml\n(.*?)^```", (ROOT / "docs/how-to/collect.md").read_text(encoding="utf-8"))
DESCRIBED, CHECKS, _ = map(yaml.safe_load, EXAMPLES)
DROP_UNKNOWN = Check.model_validate(CHECKS["checks"][0]).model_dump(mode="json")
NOW = "2026-11-30T01:00:00Z"


def site(name: str = "tableau", **entry) -> Site:
    """Return the description of a site, with changes of its section `entry`."""
    return Site.model_validate(SECTIONS[name] | {"entry": SECTIONS[name]["entry"] | entry})


def rows(*entries: str, more: str = "") -> str:
    """Return a page of the site `tableau` with entries such as `9' Corner.`, and `more` in the label of each."""
    cells = [entry.split(" ", 1) for entry in entries]
    row = "<tr class=ligne><td class=min>{}</td><td class=ico>{}<!-- --></td><td class=txt>{}</td></tr>"
    return "<table>" + "".join(row.format(time, more, text) for time, text in cells) + "</table>"


def read(html: str, url: str = "https://direct.example/1", **entry):
    return read_page(html, url, NOW, site(**entry), "tableau")


def run(folder: Path, *words: str, name: str = "tableau") -> int:
    """Run the program with the football recipe and the sites of the tests; return its exit status."""
    outputs = ["--output", str(folder / "records.json"), "--matches", str(folder / "matches.jsonl")]
    files = [str(ROOT / "config/recipes/football.yaml"), str(PAGES / "sites.yaml")]
    return extract_page.main([*words, "--site", name, *outputs, "--configfile", *files])


@pytest.mark.parametrize("name", TABLE["pages"])
def test_a_saved_page_becomes_records_in_order_that_the_football_recipe_reads(name, stage: Stage):
    expected = TABLE["pages"][name]
    assert run(stage.folder, str(PAGES / f"{name}.html"), "--url", expected["url"], name=name) == 0
    records = json.loads((stage.folder / "records.json").read_text(encoding="utf-8"))
    found = [[r["time"], r["minute"], r["added"], r["event_type"], r["text"]] for r in records]
    assert found == expected["records"]
    assert {(r["source"], r["url"]) for r in records} == {(name, expected["url"])}
    assert all(r["licence_note"] and r["scraped_at"].endswith("Z") for r in records)
    (match,) = read_jsonl(stage.folder / "matches.jsonl")
    assert match["records"] == len(records)
    assert match | expected["facts"] == match
    recipe = yaml.safe_load((ROOT / "config/recipes/football.yaml").read_text(encoding="utf-8"))
    stage.settings = settings_of(**recipe["datasets"]["football"] | {"files": ["records.json"]})
    stage.settings["checks"].append(DROP_UNKNOWN)
    assert stage.ingest(stage.folder / "records.json") == 0
    prompts = [json.loads(record["messages"])[1]["content"] for record in stage.ingested()]
    assert len(prompts) == sum(record["event_type"] != "unknown" for record in records)
    assert stage.facts("ingest")["quarantined"] == len(records) - len(prompts)
    assert prompts[0].startswith(f"Minute {expected['records'][0][0]}. Événement : Commentaire.")


@pytest.mark.parametrize(("time", "minute", "added"), TABLE["minutes"])
def test_minutes_are_read_as_sites_write_them_and_other_times_have_none(time, minute, added):
    assert minute_of(time) == (minute, added)


@pytest.mark.parametrize(
    ("selector", "html", "expected"),
    [
        *((".l", "".join(f"<b class=l>{text}</b>" for text in texts), kind) for texts, kind in TABLE["labels"]),
        *(("i@class", f'<i class="{names}"></i>', kind) for names, kind in TABLE["classes"]),
        *(("img@src", f'<img src="{address}">', kind) for address, kind in TABLE["images"]),
        ("img@alt", '<img src="/red.png" alt="">', "unknown"),
        ("use@href", '<svg><use href="/icons.svg#icon-red"></svg>', "red_card"),
        ("use@href", '<svg><use xlink:href="#icon-red"></svg>', "red_card"),
    ],
)
def test_a_type_is_that_of_the_label_or_icon_as_a_whole_and_never_read_from_the_text(selector, html, expected):
    labelled = '<i class="icon icon-red"></i><b class=l>Carton</b><img src="/i/icon-red.png" alt="Carton">'
    labelled += '<svg><use href="#x"></svg>'
    page = rows("1' Coup d’envoi.", "9' But, et carton rouge pour Ribas.").replace(
        "<td class=ico>", f"<td class=ico>{labelled}", 1
    )
    page = html.join(page.rsplit("<!-- -->", 1))
    entry = {"event_types": TABLE["event_types"], "type": selector, "unlabelled": "commentary"}
    assert [record["event_type"] for record in read(page, **entry).records][1] == expected


def test_without_any_label_on_the_page_no_entry_is_taken_for_an_unlabelled_one():
    page = read(rows("1' Coup d’envoi.", "9' But de Ribas."))
    assert [record["event_type"] for record in page.records] == ["unknown", "unknown"]
    assert page.faults == ["no entry has a label or icon; sites.tableau.entry.type 'td.ico img@alt' finds none"]


def test_malformed_entries_are_listed_and_the_others_kept(stage: Stage):
    html = (PAGES / "truc-tiep.html").read_text(encoding="utf-8")
    whole = read_page(html, "u", NOW, site("truc-tiep"), "x").records
    for end in range(html.index('<div class="event"') + 200, len(html), 41):
        part = read_page(html[:end], "u", NOW, site("truc-tiep"), "x").records
        texts = [record["text"] for record in part[1:]]  # the last one of the page, which is cut, is the first in time
        assert texts == [record["text"] for record in whole[len(whole) - len(texts) :]]
    page = read(rows("1' <b><i>Un", "2' </div></b>Deux</p>", "3'  ", " Trois", "4' <!-- ->Quatre", "5' Ci&nq"))
    assert [record["text"] for record in page.records] == ["Un", "Deux", "Ci&nq"]
    assert page.faults[:2] == ["entry 3 has no text; it has 3'", "entry 4 has no time; it has Trois"]


@pytest.mark.parametrize(
    ("entry", "html", "line"),
    [
        (
            {"item": "tr.row"},
            rows("1' Un"),
            "sites.tableau.entry.item: 'tr.row' finds nothing on https://direct.example/1; ",
        ),
        (
            {"text": ".t"},
            rows("1' Un", "2' Deux"),
            "entry.text: '.t' finds no text in 2 of 2 entries on https://direct.example/1",
        ),
        ({}, rows("1' ", "2'  ", "3' Trois"), "entry.text: 'td.txt' finds no text in 2 of 3 entries on https"),
        ({"time": ".m"}, rows("1' Un"), "sites.tableau.entry.time: '.m' finds no time in 1 of 1 entries on https"),
        ({}, "", "entry.item: 'tr.ligne' finds nothing on"),
    ],
)
def test_a_redesign_is_one_error_with_site_key_and_page_and_no_file(entry, html, line, tmp_path, capsys):
    with pytest.raises(UserError) as error:
        read(html, **entry)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    (tmp_path / "page.html").write_text(html.replace("ligne", "row"), encoding="utf-8")
    assert run(tmp_path, str(tmp_path / "page.html"), "--url", "https://direct.example/1") == 1
    assert (
        "sites.tableau.entry.item: 'tr.ligne' finds nothing on https://direct.example/1; look at"
        in capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_pages_of_one_match_are_merged_in_order_and_a_disputed_type_is_unknown():
    head = "<h1>x</h1><i class=dom>A</i><i class=ext>B</i><time datetime=2026-10-17>"
    but = '<img alt="but">'
    second = read(head + rows("90' Fin.", "46' Reprise.", "45' Un.\u00a0", more=but), "https://direct.example/1?page=2")
    first = read(head + rows("Mi-temps Pause.", "45' Un.", "45' Deux.", "12' Zéro."), "https://direct.example/1")
    other = read((head + rows("45' Un.", more=but)).replace("2026-10-17", "2027-03-01"), "https://direct.example/2")
    match, rematch = by_match([first, second, other])
    assert [record["text"] for record in match.records] == ["Zéro.", "Deux.", "Un.", "Pause.", "Reprise.", "Fin."]
    assert {record["url"] for record in match.records} == {"https://direct.example/1"}
    assert match.records[2]["event_type"] == "goal", "a known type counts more than an unknown one"
    assert [record["event_type"] for record in rematch.records] == ["goal"]
    second.records[0]["event_type"] = "penalty"
    third, fourth = (read(head + rows("45' Un.", more=but)) for _ in range(2))
    for pages in ([first, second, third], [first, second, third, fourth], [first, third, second, second]):
        assert by_match(pages)[0].records[2]["event_type"] == "unknown"


def test_a_time_in_two_elements_is_joined_and_numbers_that_are_no_minute_are_listed():
    page = read(rows("<b>45'</b><sup>+2</sup> Un.", "<b>HT</b> Deux.", "<b>2T</b><sup>12'</sup> Trois."), time="b, sup")
    assert [(record["time"], record["minute"], record["added"]) for record in page.records] == [
        ("45' +2", 45, 2),
        ("HT", None, None),
        ("2T 12'", None, None),
    ]
    assert "1 of 3 times are no minute of a match; sites.tableau.entry.time finds '2T 12''" in page.faults


@pytest.mark.parametrize(("minutes", "expected", "gaps"), TABLE["coverage"])
def test_a_match_with_gaps_or_without_its_end_is_partial(minutes, expected, gaps):
    found = coverage([{"minute": minute} for minute in minutes], Coverage())
    assert (found["coverage"], found["gaps"]) == (expected, gaps)


LISTING = """<base href="https://direct.example/2026/"><ul>
<li class=match><a href="a-b#haut">A - B</a> <i class=status>terminé 2-1</i>
<li class=match><a href="../2025/c-d">C - D</a> <i class=status>Terminé</i>
<li class=match><a href="a-b">A - B, encore</a> <i class=status>Terminé</i>
<li class=match><a href="e-f">E - F</a> <i class=status>Non-terminés</i>
<li class=match><a href="g-h">G - H</a>
<li class=match><a href="https://paris.example/i-j">I - J</a> <i class=status>Terminé</i>
<li class=match><a href="javascript:ouvre()">K - L</a> <i class=status>Terminé</i>
</ul><a class=suivant href="?page=2">"""


def test_a_listing_gives_the_addresses_of_finished_matches_on_the_sites_hosts():
    page = read_listing(LISTING, "https://direct.example/resultats", site(), "tableau")
    assert page.found == ["https://direct.example/2026/a-b", "https://direct.example/2025/c-d"]
    assert (page.skipped, page.next) == (4, "https://direct.example/2026/?page=2")
    assert page.faults == ["2 of 7 matches have no address on the site's hosts"]
    elsewhere = read_listing(LISTING.replace("?page=2", "//b.example/"), "https://direct.example/", site(), "tableau")
    assert elsewhere.next is None
    assert elsewhere.faults[1].startswith("the listing ends here: listing.next finds '//b.example/', no address on")
    unmarked = read_listing(LISTING.replace("status", "etat"), "https://direct.example/", site(), "tableau")
    assert (unmarked.found, unmarked.faults[0]) == ([], "listing.only_if '.status' finds nothing on the page")
    for html, line in (
        (LISTING.replace("match", "jeu"), "listing.item: 'li.match' finds nothing on "),
        (LISTING.replace("href", "data-href"), "listing.link: 'a@href' finds no address of the site's"),
    ):
        with pytest.raises(UserError, match=f"sites.tableau.{line}"):
            read_listing(html, "https://direct.example/resultats", site(), "tableau")


def saved(folder: Path, *pages: str, **more: dict) -> list[str]:
    """Write pages as those of a site's folder; return the texts of the records that are extracted.

    `more` has changes of pages' rows, by `page` and number.
    """
    index = []
    for number, html in enumerate(pages, 1):
        (folder / f"{number}.html").write_text(html, encoding="utf-8")
        row = {"url": f"https://direct.example/{number}", "file": f"{number}.html", "kind": "match", "status": "ok"}
        row |= {"match": row["url"], "scraped_at": NOW}
        index.append(row | more.get(f"page{number}", {}))
    index.append(index[0] | {"url": "https://direct.example/resultats", "kind": "listing"})
    index.append({"url": "https://direct.example/9", "kind": "match", "status": "failed"})
    write_jsonl(folder / "pages.jsonl", index, part=True)
    extract_folder(folder, site(), "tableau")
    return [record["text"] for record in json.loads((folder / "records.json").read_text(encoding="utf-8"))]


def test_of_a_folder_a_page_that_cannot_be_read_is_listed_unless_most_cannot(tmp_path):
    good, bad = rows("1' Un", "2' Deux"), "<h1>Erreur</h1>"
    assert saved(tmp_path, good, bad) == ["Un", "Deux"]
    read_match, failed = read_jsonl(tmp_path / "matches.jsonl")
    assert (read_match["coverage"], failed["coverage"], failed["url"]) == (
        "partial",
        "none",
        "https://direct.example/2",
    )
    assert failed["faults"][0].startswith(
        "sites.tableau.entry.item: 'tr.ligne' finds nothing on https://direct.example/2"
    )
    before = {path: path.read_bytes() for path in tmp_path.glob("*.json*") if path.name != "pages.jsonl"}
    assert saved(tmp_path, good, bad, bad, page3={"status": "failed"}) == ["Un", "Deux"], "1 of 2 that loaded"
    saved(tmp_path, good, bad)
    with pytest.raises(UserError, match=r"2 of 3 pages can't be read; sites.tableau.entry.item"):
        saved(tmp_path, good, bad, bad)
    assert {path: path.read_bytes() for path in before} == before


def test_further_pages_and_two_addresses_of_one_page_are_one_match(tmp_path):
    first, second = rows("1' Un", "2' Deux"), rows("2' Deux", "3' Trois")
    of_first = {"match": "https://direct.example/1"}
    assert saved(tmp_path, first, second, first, page2=of_first, page3=of_first) == ["Un", "Deux", "Trois"]
    assert {record["url"] for record in read_json(tmp_path / "records.json")} == {"https://direct.example/1"}
    (match,) = read_jsonl(tmp_path / "matches.jsonl")
    assert match["pages"] == 3


def test_files_that_would_be_the_same_are_left_as_they_are(tmp_path):
    files = [tmp_path / "records.json", tmp_path / "matches.jsonl"]
    saved(tmp_path, rows("1' Un"))
    for file in files:
        os.utime(file, (1, 1))
    saved(tmp_path, rows("1' Un"))
    assert [file.stat().st_mtime for file in files] == [1, 1]
    saved(tmp_path, rows("1' Un", "2' Deux"))
    assert all(file.stat().st_mtime > 1 for file in files)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--site", "tabelau"], "--site: 'tabelau' is not defined under 'sites', did you mean 'tableau'?"),
        (["--url", "https://x.example/"], "these options do not fit together; name saved pages with"),
        (["none.html"], "none.html: can't be read: No such file or directory; name pages that were saved as HTML"),
        (["unnamed.html"], "unnamed.html: does not say which address it has; name one page at a time, with --url"),
        (["latin.html"], "latin.html: is not UTF-8; save it in that encoding"),
    ],
)
def test_a_command_that_cannot_be_is_one_line(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("unnamed.html").write_text("<p>", encoding="utf-8")
    Path("latin.html").write_bytes("<p>é".encode("latin-1"))
    assert run(tmp_path, *words, name=words[-1] if "--site" in words else "tableau") == 1
    assert f" ERROR {line}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("permission", "line"),
    [
        (
            {"permission": "TODO"},
            "3: sites.directfoot.permission: text 'TODO' states no permission, without which nothing",
        ),
        (
            {},
            "2: sites.directfoot.permission: is missing: write who allowed the collecting, when and for what; without",
        ),
    ],
)
def test_the_site_of_the_how_to_page_is_valid_and_refused_without_permission(
    permission, line, tmp_path, monkeypatch, capsys
):
    section = dict(DESCRIBED["sites"]["directfoot"])
    assert Site.model_validate(section).all_hosts() == {"directfoot.example"}
    del section["permission"]
    monkeypatch.chdir(tmp_path)
    text = yaml.safe_dump({"sites": {"directfoot": permission | section}}, sort_keys=False)
    Path("mine.yaml").write_text(text, encoding="utf-8")
    files = [str(ROOT / "config/recipes/football.yaml"), "mine.yaml"]
    assert extract_page.main(["--site", "directfoot", "--configfile", *files]) == 1
    assert f" ERROR mine.yaml:{line}" in capsys.readouterr().err
