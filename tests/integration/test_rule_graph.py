"""The picture in the README is that of the workflow."""

from docs.rule_graph import ROOT, page


def test_the_readme_shows_the_present_rules():
    assert (ROOT / "README.md").read_text(encoding="utf-8") == page(), "README.md is stale: make docs"
