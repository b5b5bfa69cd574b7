"""The picture in the README is that of the workflow."""

from docs.rule_graph import ROOT, edges_of, page, reduced


def test_the_readme_shows_the_present_rules():
    assert (ROOT / "README.md").read_text(encoding="utf-8") == page(), "README.md is stale: make docs"


def test_an_edge_that_a_longer_path_stands_for_is_left_out():
    graph = "id0[all]\nid1[a]\nid2[b]\nid3[c]\nid1 --> id2\nid2 --> id3\nid1 --> id3\nid3 --> id0"
    assert edges_of(graph) == {("a", "b"), ("b", "c"), ("a", "c")}
    assert reduced(edges_of(graph)) == {("a", "b"), ("b", "c")}
