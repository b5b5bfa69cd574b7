"""The simulated sweep adds up, and the table of the page on scale is the one that the program makes."""

import re

from tests.benchmarks.scale import simulate_cluster
from tests.benchmarks.scale.simulate_cluster import CHANGES, PAGE, main, table_of_page


def test_the_table_on_the_page_is_that_of_the_program_and_adds_up(monkeypatch, tmp_path):
    page, shown = PAGE.read_text(encoding="utf-8"), table_of_page()
    monkeypatch.setattr(simulate_cluster, "PAGE", tmp_path / "scale.md")
    (tmp_path / "scale.md").write_text(page.replace(shown, "an old table\n"), encoding="utf-8")
    assert main(["--runs", "3"]) == 0
    assert table_of_page() == "an old table\n"
    assert main([]) == 0
    assert (tmp_path / "scale.md").read_text(encoding="utf-8") == page
    rows = table_of_page().splitlines()[2:]
    assert len(rows) == len(CHANGES)
    for row in rows:
        shares = [float(cell) for cell in re.findall(r"[\d.]+(?= \|)", row)][-7:]
        assert abs(sum(shares) - 100) < 0.5
        assert min(shares) >= 0
