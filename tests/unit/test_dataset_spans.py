"""Character spans are read in every layout, checked against the text, moved exactly with it, and counted."""

import json
import re
import unicodedata
from pathlib import Path

import pyarrow
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyarrow import parquet

from scripts.common.records import SPLITS, normalised
from scripts.dataset.entities import parse_entities
from scripts.dataset.make_record import RecordMaker
from scripts.dataset.raw_rows import BadRecordError
from scripts.dataset.span_statistics import edge_faults
from scripts.dataset.spans import resolved_spans
from tests.support.dataset_steps import Stage, settings_of, write_lines

MAIL = "Écrire à Zoé <zoe@example.org> 😀 ou à Bob."
ZOE, ADDRESS, BOB = [9, 12, "PERSON"], [14, 29, "EMAIL"], [38, 41, "PERSON"]
SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}
ATTACK = "<script>alert('x')</script>"


def made(raw: dict, **settings):
    return RecordMaker(settings_of(format="spans", **settings)).make(raw, "raw.jsonl:1")[0]


def fault(spans, text: str = MAIL) -> BadRecordError:
    with pytest.raises(BadRecordError) as caught:
        made({"text": text, "spans": spans})
    return caught.value


def test_spans_make_an_answer_that_leads_back_to_them():
    record = made({"text": MAIL, "spans": [ADDRESS, ZOE]})
    assert record.spans == [ZOE, ADDRESS]
    assert parse_entities(record.answer, MAIL) == (record.spans, 0)
    first, second = (made({"text": "Bob, Bob", "spans": spans}) for spans in ([[0, 3, "A"]], [[5, 8, "A"]]))
    assert first.id != second.id


@pytest.mark.parametrize("spans", [[], "[]", "", [[0, 6, "O"]]])
def test_a_text_without_spans_is_a_record(spans):
    record = made({"text": MAIL, "spans": spans, "language": "fr", "words": "[1]"})
    assert (record.expected, record.spans, record.meta) == ("[]", [], {"language": "fr", "words": "[1]"})


def test_long_texts_of_spans_are_refused_and_not_parsed_without_end():
    lists = ("[" * 3000, "-" * 9000 + "1", f"[[{'9' * 5000}, 12]]", "[" + "[9, 12, 'A'], " * 20000 + "]")
    assert [fault(spans).kind for spans in lists] == ["not a list"] * 4


@pytest.mark.parametrize(
    ("text", "encoded", "unit"),
    [
        (MAIL, lambda text: text.encode("utf-8"), "bytes of UTF-8"),
        (MAIL, lambda text: text.encode("utf-16-le")[::2], "UTF-16 units"),
        ("d\u00e9j\u00e0 vu : Bob.", lambda text: unicodedata.normalize("NFD", text), "decomposed text (NFD)"),
        ("de\u0301ja\u0300 vu : Bob.", lambda text: unicodedata.normalize("NFC", text), "composed text (NFC)"),
        ("a\r\nb\r\nBob", lambda text: text.replace("\r\n", "\n"), "a line end as one character"),
        ("a\nb\nBob", lambda text: text.replace("\n", "\r\n"), "a line end as two characters"),
        ("  a Bob", lambda text: text.lstrip(), "from the first character that is not white space"),
    ],
)
def test_offsets_in_another_unit_are_recognised(text: str, encoded, unit: str):
    start = len(encoded(text[: text.index("Bob")]))
    error = fault([[start, start + 3, "PERSON", "Bob"]], text)
    assert error.kind in ("shifted span", "span out of range")
    assert unit in str(error)


HARD = st.sampled_from("ae \t\r\n\u0301\u0323\u0315\u1100\u1161\u11a8\u00e9\u2126\ufb01😀.\u00a0")
TEXTS = st.text(HARD | st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)


@given(TEXTS, st.lists(st.integers(0, 30), min_size=2, max_size=8, unique=True))
def test_normalisation_moves_offsets_exactly(text: str, cuts: list[int]):
    """What a span covers is the same before and after, up to normalisation; or the span is refused."""
    cuts = sorted(cut for cut in cuts if cut <= len(text))
    spans = [[a, b, f"L{a}"] for a, b in zip(cuts[::2], cuts[1::2], strict=False) if text[a:b].strip()]
    assume(spans)
    used = sorted({cut for a, b, _ in spans for cut in (a, b)})

    def composed(part: str) -> str:
        return unicodedata.normalize("NFC", re.sub("\r\n?", "\n", part))

    pieces = [composed(text[a:b]) for a, b in zip([0, *used], [*used, len(text)], strict=True)]
    if "".join(pieces) != composed(text):
        with pytest.raises(BadRecordError, match="within what normalisation makes one character"):
            resolved_spans(text, spans, {}, "spans")
        return
    moved, resolved, _ = resolved_spans(text, spans, {}, "spans")
    assert moved == normalised(text)
    assert [label for _, _, label in resolved] == [label for _, _, label in spans]
    for (start, end, _), (a, b, _) in zip(spans, resolved, strict=True):
        assert moved[a:b] == normalised(text[start:end])


def test_white_space_is_trimmed_and_repeated_spans_are_merged_and_both_are_counted(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(format="spans")
    rows = [
        {"text": MAIL, "spans": [[8, 13, "FIRST"], ZOE, ZOE, [0, 6, "O"], [30, 31, "JUNK"], BOB]},
        {"text": "\r\n Bob \r\n", "spans": [[0, 9, "PERSON"]]},
        {"text": "bad", "spans": [[0, 9, "FIRST"]]},
    ]
    stage.settings |= {"span_label_map": {"FIRST": "PERSON", "JUNK": "O"}, "on_bad_record": "quarantine"}
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", rows)) == 0
    assert [json.loads(row["spans"]) for row in stage.ingested()] == [[ZOE, BOB], [[0, 3, "PERSON"]]]
    counts = stage.facts("ingest")["spans"]
    assert [tuple(row.values()) for row in counts.pop("labels")] == [
        ("PERSON", "PERSON", 4), ("FIRST", "PERSON", 1), ("JUNK", "O", 1),
    ]  # fmt: skip
    assert counts == {"outside": 1, "merged_duplicates": 2, "trimmed": 2}


def test_spans_of_tables_are_read(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(format="spans")
    (tmp_path / "raw.csv").write_text('text,spans\n"Bob, Zoé","[[0, 3, ""P""]]"\nNobody,\n', encoding="utf-8")
    cells = pyarrow.array([[{"start": 0, "end": 3, "label": "P"}], []])
    parquet.write_table(pyarrow.table({"text": ["Bob", "No"], "spans": cells}), tmp_path / "raw.parquet")
    assert stage.ingest(tmp_path / "raw.csv", tmp_path / "raw.parquet") == 0
    assert [json.loads(row["spans"]) for row in stage.ingested()] == [[[0, 3, "P"]], []] * 2


def sample(count: int = 60) -> list[dict]:
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
    texts = [" ".join(words[(n * 7 + i * 11) % len(words)] + str(n * i) for i in range(8)) for n in range(count)]
    return [
        {"text": f"{words[n * 2]} {text}", "spans": [[0, 3, "PERSON"]] * (n % 3 > 0), "language": ("en", "fr")[n % 2]}
        for n, text in enumerate(texts)
    ]


def test_texts_and_not_answers_are_compared_for_duplicates(stage: Stage, tmp_path: Path):
    for compare in ("answer", "conversation"):
        stage.settings = settings_of(format="spans", label="language", splits=SHARES, deduplicate={"compare": compare})
        rows = sample()
        again = rows[1] | {"spans": [[4, 8, "PERSON"]]}
        stage.run(write_lines(tmp_path / "raw.jsonl", [*rows, rows[2], again]))
        assert stage.facts("split")["kept"] == 60
        exact, differing = stage.lines("duplicates")
        assert (exact["kind"], exact["spans_differ"]) == ("exact", False)
        assert (differing["kind"], differing["similarity"], differing["spans_differ"]) == ("near", 1.0, True)
        assert "the same text with other spans" in (tmp_path / "ledger.html").read_text(encoding="utf-8")


def test_the_ledger_counts_spans_and_shows_wrong_edges(stage: Stage, tmp_path: Path):
    stage.settings = settings_of(format="spans", label="language", splits=SHARES, span_label_map={"X": ATTACK})
    rows = [*sample(), {"text": "<i>one two three", "spans": [[0, 4, "X"], [7, 10, "X"]], "language": "en"}]
    raw = write_lines(tmp_path / "raw.jsonl", rows)
    stage.run(raw)
    ledger = stage.facts("ledger")
    person, attack = ledger["spans"]["labels"]
    assert person.items() >= {"label": "PERSON", "spans": 40, "records": 40, "texts": 40}.items()
    assert attack.items() >= {"label": ATTACK, "spans": 2, "records": 1, "texts": 2}.items()
    assert sum(person[split] for split in SPLITS) == 40
    assert person["labels"] == {"en": 20, "fr": 20}
    assert sum(ledger["spans"]["records_without"].values()) == 20
    assert ledger["raw_spans"]["labels"][1] == {"raw": "X", "label": ATTACK, "spans": 2}
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    assert "42 spans of 2 labels" in page
    edge = {"origin": f"{raw}:61", "label": ATTACK, "fault": "ends within a word", "before": "", "text": "<i>o"}
    assert ledger["spans"]["edges"] == {"spans": 1, "examples": [{**edge, "after": "ne two three"}]}
    assert "<mark>&lt;i&gt;o</mark>" in page
    assert not re.search("<script|<i>", page)


@pytest.mark.parametrize(
    ("text", "covered", "faults"),
    [
        ("Call Zoé now", "Zoé", []),
        ("Call Zoé, now", "oé,", ["starts within a word", "ends with a separator"]),
        ("dial 5512 now", "551", ["ends within a word"]),
        ("runs 5km.", "5", []),
        ("我叫王小明。", "王小明", []),
    ],
)
def test_what_looks_wrong_at_the_edges_of_a_span_is_said(text: str, covered: str, faults: list[str]):
    start = text.index(covered)
    assert edge_faults(text, start, start + len(covered)) == faults
