"""What commands put into README.md: the demo's summary as it was printed, and a small picture of a page."""

import re
import shutil
from pathlib import Path

import pytest

from docs import picture, readme, summary
from tests.support.score_fixtures import babble, make_run, same
from tests.support.score_pages import write_board


@pytest.fixture
def results(tmp_path) -> Path:
    folder = tmp_path / "results"
    make_run(folder, "football", "fr", {"base": (babble, 60.0), "q8_0": (same, 9.0)})
    write_board(folder, {"football": ["base", "q8_0"]})
    return folder


def test_the_summary_takes_the_place_of_the_old_one_or_the_page_stays_and_one_line_says_why(
    results, tmp_path, monkeypatch, capsys
):
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


def test_without_chromium_or_a_page_there_is_one_line(tmp_path, monkeypatch, capsys):
    words = [str(tmp_path / "report.html"), str(tmp_path / "report.png")]
    assert picture.main(words) == 1
    assert capsys.readouterr().err == f"{words[0]}: is not there yet; run `make demo` first\n"
    (tmp_path / "report.html").write_text("<p>")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert picture.main(words) == 1
    assert capsys.readouterr().err.startswith("Chromium is not installed; apt-get install chromium")
    assert not (tmp_path / "report.png").exists()


@pytest.mark.skipif(not any(map(shutil.which, picture.BROWSERS)), reason="apt-get install chromium")
def test_chromium_takes_the_picture_of_a_page(tmp_path, capsys):
    from PIL import Image

    (tmp_path / "page.html").write_text("<body style='margin: 0; background: rgb(0, 128, 0)'><h1>Report</h1>")
    target = tmp_path / "images/page.png"
    assert picture.main([str(tmp_path / "page.html"), str(target), "--height", "300"]) == 0
    assert capsys.readouterr().out == f"{target}: {target.stat().st_size // 1000} kB\n"
    with Image.open(target) as image:
        assert image.size == (picture.WIDTH, 300)
        assert image.convert("RGB").getpixel((1100, 250)) == (0, 128, 0)
