"""Records are collected from a site on loopback in Chromium: interrupted, continued, extracted again, and ingested.

The tests build on each other's folder, in this order.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from scripts.collect import browser, collect_pages, find_pages
from scripts.collect.collect_page import collector
from scripts.collect.extract_page import extract_folder
from scripts.common.files import read_json, read_jsonl
from scripts.config.sites import Site
from tests.site.server import AGENT, ENTRIES, PARTS, CommentarySite, serving, site_section
from tests.support.needs import need
from tests.support.process_tree import RunningWorkflow
from tests.support.project import CONFIG, Project

RECORDS = PARTS * ENTRIES - 1  # of a match; one entry has no text
DATASET = {
    "files": ["collected/direct/records.json"],
    "format": "fields",
    "fields": {"user": "Minute {{ time }}, {{ label }}", "assistant": "{{ text }}"},
    "label": "event_type",
    "group_by": "url",
    "language": "fr",
}


@pytest.fixture(scope="module")
def site() -> Iterator[CommentarySite]:
    need("chromium", "tests/system/install_chromium.sh")
    with serving() as site:
        yield site


@pytest.fixture(scope="module")
def project(site, tmp_path_factory) -> Iterator[Project]:
    """A project whose dataset is what is collected from the site."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        project = Project.made_in(tmp_path_factory.mktemp("collect"))
        write_config(project, site_section(site.address))
        yield project


def write_config(project: Project, section: dict) -> None:
    """Write the configuration with a section of the site."""
    config = yaml.safe_load(CONFIG)
    config["datasets"] = {"direct": DATASET}
    config["runs"]["cards"]["dataset"] = "direct"
    project.write("config/config.yaml", yaml.safe_dump(config | {"sites": {"direct": section}}, allow_unicode=True))


def collected(project: Project, name: str) -> Path:
    return project.folder / "collected/direct" / name


def statuses(project: Project) -> dict[str, str]:
    """Return the status of each match by the last part of its address."""
    rows = read_jsonl(collected(project, "pages.jsonl"))
    return {row["url"].rpartition("/")[2]: row["status"] for row in rows if row["kind"] == "match"}


def texts(project: Project) -> list[str]:
    return [record["text"] for record in read_json(collected(project, "records.json"))]


def test_a_plain_run_says_that_nothing_is_collected_and_asks_nothing(project, site):
    done = project.snakemake("-n")
    assert done.returncode == 1
    line = "datasets.direct: collected/direct/records.json is not collected yet: run `snakemake collect` first"
    assert done.stdout.splitlines()[1:] == [line]
    done = project.snakemake("results/collect/direct/collected.json", "--config", "offline=True")
    assert done.returncode == 1
    assert "nothing is collected with 'offline: true'" in done.stdout
    assert not site.log


def test_after_a_kill_the_same_command_fetches_only_what_is_missing(project, site):
    site.waits_at = "/match/2"
    running = RunningWorkflow(project.folder, "collect")
    while not site.reached.wait(0.1):
        assert running.alive(), running.said()
    assert ("collect", "collect_pages") in running.kill_tree()
    site.waits_at = None
    assert statuses(project) == {"1": "ok"} | dict.fromkeys("2345", "found")

    done = project.snakemake("collect")
    assert done.returncode == 1
    assert "1 of 5 pages were not collected" in done.stdout
    assert "/match/4: failed: answered 403" in done.stdout
    assert "/match/5: refused: robots.txt disallows" in done.stdout
    assert statuses(project) == {"1": "ok", "2": "ok", "3": "ok", "4": "failed", "5": "refused"}
    assert len(read_json(collected(project, "records.json"))) == 3 * RECORDS
    pages = site.asked("/results") + site.asked("/match/1") + site.asked("/api/1")
    assert len(pages) == 2 + 1 + PARTS
    assert set(pages.values()) == {1}
    assert site.asked("/match/2")["/match/2"] == 2, "the interrupted one, again"
    assert not site.asked("/members")


def test_requests_are_those_of_a_polite_visitor(site):
    agents = {agent for _, _, agent in site.log}
    assert agents == {AGENT}
    asked = sorted(site.times("/match/") + site.times("/api/"))
    assert min(two - one for one, two in pairwise(asked)) >= 0.19  # crawl-delay
    first, second = site.times("/match/3")
    assert second - first >= 1  # Retry-After
    assert not set(site.asked()) & {"/photo.jpg", "/font.woff2", "/logo.png", "/match/8", "/match/9"}


def test_pages_that_failed_are_tried_again_and_complete_the_records(project, site):
    site.mended, before = True, site.asked()
    done = project.snakemake("collect")
    assert done.returncode == 0, done.stdout
    new = site.asked() - before
    assert {path for path in new if not path.startswith("/api/")} == {
        "/robots.txt",
        "/match/4",
        "/match/5",
        "/members/5",
    }
    records = read_json(collected(project, "records.json"))
    assert len(records) == 5 * RECORDS
    assert {record["event_type"] for record in records} == {"commentary", "goal", "yellow_card"}
    assert ("45'+2", 45, 2) in {(record["time"], record["minute"], record["added"]) for record in records}
    assert len(list(read_jsonl(collected(project, "matches.jsonl")))) == 5


def test_a_dataset_reads_the_records_and_runs_other_than_collect_ask_nothing(project, site):
    before = site.asked()
    done = project.snakemake("results/datasets/direct/ingest.json")
    assert done.returncode == 0, done.stdout
    assert read_json(project.folder / "results/datasets/direct/ingest.json")["read"] == 5 * RECORDS
    section = site_section(site.address)
    records = collected(project, "records.json")
    assert records.stat().st_size > 1_000_000, "of larger files Snakemake compares the time only"
    extract_folder(records.parent, Site.model_validate(section), "direct")
    assert project.planned("results/datasets/direct/ingest.json") == Counter()
    section["entry"]["event_types"]["but"] = section["entry"]["event_types"].pop("goal")
    write_config(project, section)
    done = project.snakemake("extract")
    assert done.returncode == 0, done.stdout
    kinds = {record["event_type"] for record in read_json(collected(project, "records.json"))}
    assert kinds == {"commentary", "but", "yellow_card"}
    assert project.planned()["ingest_records"] == 1
    assert site.asked() == before


def test_a_redesign_is_an_error_and_never_an_empty_file(project, site, monkeypatch, capsys):
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(browser, "FIRST_ENTRY", 500)
    site.redesigned, before = True, texts(project)
    section = json.dumps(site_section(site.address))
    Path("again.txt").write_text(f"{site.address}/match/1\n")
    options = ["--site", "direct", "--settings", section, "--again"]
    assert collect_pages.main(["again.txt", *options]) == 1
    assert "nothing matches 'li.entry': the site has been redesigned" in capsys.readouterr().err
    assert texts(project) == before, "of the page that was saved before"
    shutil.rmtree("collected/direct/pages")
    assert collect_pages.main(["again.txt", *options]) == 1
    assert texts(project) == before
    listing = section.replace("li.match", "li.game").replace('"browser": true', '"browser": false')
    assert find_pages.main(["--site", "direct", "--settings", listing, "--output", "found.txt"]) == 1
    assert "sites.direct.listing.item: 'li.game' finds nothing" in capsys.readouterr().err
    assert not Path("found.txt").exists()


def test_a_page_is_saved_as_a_whole_or_says_what_it_lacks(project, site, monkeypatch):
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(browser, "PAUSE", 100)
    section = site_section(site.address)
    section["page"] |= {"load_more": ".more", "next": "a.next@href", "may_fail": ["?login"]}
    section["listing"] |= {"item": ".entry", "max_pages": 6}
    with collector("odd", Site.model_validate(section)) as opened:
        names = ["disabled", "next", "reload", "reload?entry", "login", "replaces", "leads", "private", "lacks"]
        rows = {name: opened.collect(f"{site.address}/odd/{name}", "match") for name in names}
        entries = {
            name: opened.folder.read(row).count('="entry') for name, row in rows.items() if row["status"] == "ok"
        }
        assert entries == {"disabled": 4, "next": 3, "reload": 3, "reload?entry": 3, "login": 3}
        pages = [row for row in opened.folder.saved("match") if row["match"].endswith("/odd/next")]
        assert [row["url"].rpartition("/")[2] for row in pages] == ["next", "next?page=2"]
        assert "entries are replaced by others" in rows["replaces"]["why"]
        assert "'.more' leads to" in rows["leads"]["why"]
        assert "page.next" in rows["replaces"]["why"]
        assert "page.next" in rows["leads"]["why"]
        assert (rows["private"]["status"], rows["lacks"]["status"]) == ("refused", "failed")
        assert "name it in page.may_fail" in rows["lacks"]["why"]
        listing = opened.collect(f"{site.address}/odd/endless", "listing")
        assert opened.folder.read(listing).count('="entry') == 3 + 5


def test_without_chromium_one_line_says_how_to_install_it(project, site, monkeypatch, capsys):
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv(browser.VARIABLE, "/nowhere/chromium")
    section = json.dumps(site_section(site.address))
    assert collect_pages.main(["again.txt", "--site", "direct", "--settings", section, "--again"]) == 1
    assert "Chromium can't be started" in (said := capsys.readouterr().err)
    assert "apt-get install chromium" in said
