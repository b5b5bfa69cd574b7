"""What a command puts into README.md: the demo's summary as it was printed."""

import re

from docs import readme, summary
from tests.support.score_fixtures import babble, make_run, same
from tests.support.score_pages import write_board


def test_the_summary_takes_the_place_of_the_old_one_or_the_page_stays_and_one_line_says_why(
    tmp_path, monkeypatch, capsys
):
    results = tmp_path / "results"
    make_run(results, "football", "fr", {"base": (babble, 60.0), "q8_0": (same, 9.0)})
    write_board(results, {"football": ["base", "q8_0"]})
    page, before = tmp_path / "README.md", f"# Title\n\n{summary.BEGIN}\nold\n{summary.END}\n\nend\n"
    page.write_text(before, encoding="utf-8")
    monkeypatch.setattr(readme, "README", page)
    assert summary.main([str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.endswith("is missing; run snakemake first\n")
    assert page.read_text(encoding="utf-8") == before
    for _ in range(2):
        assert summary.main([str(results)]) == 0
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# Title\n\n{summary.BEGIN}\n```text\nfootball hold: no gate is defined")
        assert text.endswith(f"```\n{summary.END}\n\nend\n")
        assert "football: the test prompt of median difference in chrF, q8_0 against base" in text
        assert not re.search(r"\nold\n|\x1b| \n", text)
    page.write_text("# Title\n", encoding="utf-8")
    assert summary.main([str(results)]) == 1
    assert f"put two lines where it belongs: {summary.BEGIN} and {summary.END}" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == "# Title\n"
