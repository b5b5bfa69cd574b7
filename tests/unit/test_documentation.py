"""Generated pages are those that the code gives, commands mean what they look like, and configurations are valid."""

import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from docs import build_site, rule_graph, rules_page
from docs.build_site import pages
from docs.readme import README, between
from docs.summary import BEGIN, END
from scripts.common.errors import UserError
from scripts.config.faults import sections_in
from scripts.config.load import load_config
from scripts.config.reference import generated_files, metrics_table
from scripts.config.root import Config
from scripts.train.training_run import check_packages
from tests.benchmarks import page as benchmarks

ROOT = Path(__file__).resolve().parents[2]
PAGES = pages()
COMMENTED = [ROOT / "Makefile", ROOT / "Snakefile", *sorted((ROOT / "config").rglob("*.yaml"))]
RECIPES = sorted((ROOT / "config/recipes").glob("*.yaml"))
SHIPPED = [*sorted((ROOT / "config").glob("*.yaml")), *RECIPES]
COMING_FROM = [f"how-to/{path.stem}" for path in sorted((ROOT / "docs/how-to").glob("coming-from-*.md"))]
CONFIGURATION = re.compile(r"\.(ya?ml|json)$|^\$\(RECIPE_CONFIG\)$")
QUIET = ("all", "host", "progress", "reason", "rules")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_generated_pages_are_those_that_the_classes_and_the_measurements_give():
    files = {**generated_files(), benchmarks.PAGE: benchmarks.page(), rules_page.PAGE: rules_page.page()}
    stale = [str(path) for path, text in files.items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`, and `python -m tests.benchmarks.page`"


def test_the_rules_page_has_each_rule_with_its_paths_and_paths_md_has_each_rule_that_makes_something():
    text = rules_page.page()
    sections = {part.split("`")[1]: part for part in text.split("\n### ")[1:]}
    assert set(sections) == set(rule_graph.stage_of_rules())
    # As its parent, but for what it overrides; a function's paths; what a function returns without a path of its own.
    for line in (
        "| input `base` | `<results>/models/{model}/manifest.json` |",
        "| output `labels` | `<results>/runs/{run}/tokens/labels.json` |",
    ):
        assert line in sections["tokenize_spans"]
    assert (
        "| input `read` | the files that a run reads, except raw data and model weights |" in sections["build_bundle"]
    )
    assert not [line for line in text.splitlines() if re.search(r"\| `?[)\]]|branch\(|lambda| for \w+ in ", line)]
    paths = (ROOT / "docs/reference/paths.md").read_text(encoding="utf-8")
    assert [name for name, part in sections.items() if "\n| output" in part and f"`{name}`" not in paths] == []


def test_each_metric_has_its_formula_or_source():
    cells = [line.split(" | ") for line in metrics_table().splitlines()[2:]]
    assert [row[0] for row in cells if row and len(row) > 1 and not row[2].strip()] == []


def test_each_decision_is_a_paragraph_of_its_own():
    lines = (ROOT / "docs/explanation/decisions.md").read_text(encoding="utf-8").splitlines()
    titles = [place for place, line in enumerate(lines) if line.startswith("**")]
    assert len(titles) > 100
    assert [lines[place] for place in titles if lines[place - 1]] == []
    assert [lines[place] for place in titles if not lines[place].endswith(".**")] == []


def paths_without_description(section=Config, start=""):
    """Yield the dotted path of each key that has no description."""
    for key, field in section.model_fields.items():
        if not field.description:
            yield start + key
        for below in sections_in(field.annotation):
            yield from paths_without_description(below, f"{start}{key}.")


def test_every_key_is_described():
    assert list(paths_without_description()) == []


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_a_shipped_file_fits_the_editor_schema_and_names_it(path):
    schema = ROOT / "config/schema.json"
    text = path.read_text(encoding="utf-8")
    named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == schema
    jsonschema.validate(yaml.safe_load(text), yaml.safe_load(schema.read_text(encoding="utf-8")))


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


@pytest.mark.parametrize("path", [*PAGES, *COMMENTED], ids=name)
def test_no_target_stands_where_an_option_would_swallow_it(path):
    assert swallowed("snakemake --configfile config/a.yaml results/x.html") == ["--configfile results/x.html"]
    assert swallowed(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_every_recipe_has_a_page_with_its_command(path):
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/recipes").glob("*.md"))
    assert f"config/recipes/{path.name}" in pages
    assert f"make recipe NAME={path.stem} " in pages


def test_a_made_part_of_the_readme_is_put_between_its_markers_or_they_are_asked_for():
    text = README.read_text(encoding="utf-8")
    made = between(text, BEGIN, END, "x")
    assert f"{BEGIN}\nx\n{END}\n" in made
    assert between(made, BEGIN, END, text.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]) == text
    for marker in (BEGIN, END):
        with pytest.raises(UserError, match=r"^README\.md: has no place for it; put two lines where it belongs: "):
            between(text.replace(marker, ""), BEGIN, END, "x")


@pytest.mark.parametrize("page", ["README.md", "tutorial", "how-to/redact-personal-data", *COMING_FROM])
def test_the_example_configuration_is_valid(page):
    path = ROOT / page if page.endswith(".md") else ROOT / f"docs/{page}.md"
    examples = re.findall(r"(?ms)^ *```yaml.*?\n(.*?)^ *```", path.read_text(encoding="utf-8"))
    [whole] = [found for found in map(yaml.safe_load, examples) if {"datasets", "models", "runs"} <= set(found)]
    for run in load_config(whole).runs.values():
        check_packages(run.training.model_dump())


def headings(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path):
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not re.match(r"[a-z]+:", link) and not (target.exists() and (not anchor or anchor in headings(target))):
            lost.append(link)
    assert lost == []


def test_the_site_has_no_fault_and_every_page_is_in_its_navigation(tmp_path):
    build_site.build(tmp_path / "site")
    settings = (ROOT / build_site.SETTINGS).read_text(encoding="utf-8")
    named = re.findall(r'"([^"]+\.md)"', settings)
    assert sorted(named) == sorted(map(name, PAGES))
    built = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert tomllib.loads(settings)["project"]["site_name"] in built
    assert "<code>ingest_records</code></td>" in built  # the rule graph, as a table


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("b.md", "README.md: links to 'b.md', which is not a file"),
        ("docs", "README.md: links to 'docs', which is not a file"),
        ("docs/c.md#nowhere", "anchor does not exist"),
    ],
)
def test_the_site_is_not_built_with_a_broken_link(tmp_path, monkeypatch, link, fault):
    root = tmp_path / "repository"
    (root / "docs").mkdir(parents=True)
    (root / "docs/c.md").write_text("# C\n", encoding="utf-8")
    (root / "README.md").write_text(f"# A\n\n[a]({link})\n", encoding="utf-8")
    (root / build_site.SETTINGS).write_text('[project]\nsite_name = "a"\ndocs_dir = "pages"\n', encoding="utf-8")
    monkeypatch.setattr(build_site, "ROOT", root)
    with pytest.raises(UserError, match=re.escape(fault)):
        build_site.build(tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_lost_files_and_what_comes_from_the_network_are_faults_of_the_site(tmp_path):
    page = '<a href="https://a.org/">a</a><a href="a.html#b">a</a><a href="b.html">b</a><img src="//c.org/d.png">'
    (tmp_path / "a.html").write_text(page, encoding="utf-8")
    assert list(build_site.faults(tmp_path)) == ["a.html: b.html is not there", "a.html: loads //c.org/d.png"]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_lists_are_indented_by_four_spaces_as_the_site_needs(path):
    text = re.sub(r"(?ms)^( *)```.*?^ *```$", r"\1```", path.read_text(encoding="utf-8"))
    assert re.findall(r"(?m)^ {1,3}(?:[-*] |\d+\. |```).*", text) == []
