"""Spans that start or end within a word or on a separator are counted and shown, and kept."""

from pathlib import Path

import pytest

from scripts.dataset.span_edges import edge_faults
from tests.support.dataset_steps import Stage, settings_of, write_lines


@pytest.mark.parametrize(
    ("text", "covered", "faults"),
    [
        ("Call Zoé now", "Zoé", []),
        ("Call Zoé now", "oé", ["starts within a word"]),
        ("Call Zoé now", "Zo", ["ends within a word"]),
        ("Call Zoé, now", "Zoé,", ["ends with a separator"]),
        ("Call: Zoé now", ": Zo", ["starts with a separator", "ends within a word"]),
        ("dial 5512 now", "551", ["ends within a word"]),
        ("runs 5km.", "5", []),
        ("l'amie de Zoé", "amie", []),
        ("我叫王小明。", "王小明", []),
        ("Zoé", "Zoé", []),
    ],
)
def test_what_looks_wrong_at_the_edges_is_said(text: str, covered: str, faults: list[str]):
    start = text.index(covered)
    assert edge_faults(text, start, start + len(covered)) == faults


def test_the_ledger_counts_them_and_shows_the_first_five(tmp_path: Path, capsys: pytest.CaptureFixture):
    stage = Stage(tmp_path, settings_of(format="spans", splits={"train": 0.5, "validation": 0, "test": 0.5}), capsys)
    names = ["Ann<i>", "Robert", "Claude", "Dorian", "Estelle", "Francis", "Gaston", "Hector"]
    rows = [{"text": f"{name} was here, with number {name * 2}", "spans": [[0, 2, "PERSON"]]} for name in names]
    rows += [{"text": f"Nothing wrong with {name}!", "spans": [[19, 19 + len(name), "PERSON"]]} for name in names]
    raw = write_lines(tmp_path / "raw.jsonl", rows)
    stage.run(raw)
    edges = stage.facts("ledger")["spans"]["edges"]
    assert edges["spans"] == 8
    assert edges["examples"] == [
        {
            "origin": f"{raw}:{number + 1}",
            "label": "PERSON",
            "fault": "ends within a word",
            "before": "",
            "text": name[:2],
            "after": f"{name[2:]} was here, with"[:12],
        }
        for number, name in enumerate(names[:5])
    ]
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    assert "8 spans look wrong at an edge" in page
    assert "<mark>An</mark>" in page
    assert "<i>" not in page.partition("look wrong")[2].partition("</ul>")[0]
