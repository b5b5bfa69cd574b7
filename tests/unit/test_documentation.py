"""The commands in the documentation mean what they look like, and its example configurations are valid."""

import json
import re
from pathlib import Path

import pytest
import yaml

from scripts.config.load import load_config
from scripts.score.print_summary import next_commands
from tests.benchmarks.bench_times import page

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "data").rglob("*.md"))]
COMMENTED = [ROOT / "Makefile", ROOT / "Snakefile", *sorted((ROOT / "config").rglob("*.yaml"))]
CONFIGURATION = re.compile(r"\.(ya?ml|json)$|^\$\(RECIPE_CONFIG\)$")
QUIET = ("all", "host", "progress", "reason", "rules")


def swallowed(text: str) -> list[str]:
    """Return the words that `--configfile` or `--quiet`, which take several values, would take for values of theirs."""
    found = []
    for option, values in re.findall(r"(--configfile|--quiet)((?:[ \t]+[^\s`\"'#;|&]+)+)", text):
        for word in values.split():
            if word.startswith("-") or word == "$(OPTIONS)":
                break
            if not (CONFIGURATION.search(word) if option == "--configfile" else word in QUIET):
                found.append(f"{option} {word}")
    return found


@pytest.mark.parametrize("path", [*PAGES, *COMMENTED], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_target_stands_where_an_option_would_swallow_it(path):
    assert swallowed(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(("folder", "recipe"), [("results", None), ("results/stories/embedded", "stories")])
def test_no_target_of_the_summary_is_swallowed(folder, recipe):
    commands = next_commands(Path(folder), Path(folder, "report.html"), recipe)
    assert swallowed("\n".join(text for pair in commands for text in pair)) == []


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("snakemake --configfile config/a.yaml config/b.yaml results/x.html", ["--configfile results/x.html"]),
        ("snakemake -n --quiet rules results/x.html", ["--quiet results/x.html"]),
        ("`snakemake results/x.html -n --quiet rules --configfile config/a.yaml config/b.yaml  # all` and `x`", []),
    ],
)
def test_a_swallowed_target_is_found(command, found):
    assert swallowed(command) == found


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/how-to/redact-personal-data.md"])
def test_the_example_configuration_is_valid(page):
    examples = re.findall(r"(?ms)^ *```yaml\n(.*?)^ *```", (ROOT / page).read_text(encoding="utf-8"))
    [whole] = [found for found in map(yaml.safe_load, examples) if {"datasets", "models", "runs"} <= set(found)]
    assert load_config(whole).runs


def headings(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not re.match(r"[a-z]+:", link) and not (target.exists() and (not anchor or anchor in headings(target))):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_has_a_page(path):
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "recipes").glob("*.md"))
    assert f"config/recipes/{path.name}" in pages
    assert f"make recipe NAME={path.stem} " in pages


def test_the_page_of_times_is_made_of_the_measurements():
    measurements = json.loads((ROOT / "docs/benchmarks.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8") == page(measurements)
