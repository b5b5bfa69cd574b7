"""The example data of personal data: made anew to the byte, balanced, rightly marked, and about nobody."""

import ipaddress
import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from data.pii import make_records
from data.pii.values import MONTHS
from scripts.common.files import read_jsonl
from scripts.dataset.ingest import ingest
from scripts.dataset.raw_rows import RawRow
from tests.support.dataset_steps import Stage, settings_of, write_lines

DATA = Path(__file__).parents[2] / "data/pii"
TEST_CARDS = {"4242", "4111", "4012", "4000", "5555", "5105", "5200", "2223", "6011", "3566", "3782", "3714"}


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return [json.loads(line) for line in (DATA / "records.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def values(records) -> dict[str, set[tuple[str, str]]]:
    """Return the (language, text) that stand under each label."""
    found: dict[str, set[tuple[str, str]]] = {}
    for record in records:
        for start, end, label in record["spans"]:
            found.setdefault(label, set()).add((record["language"], record["text"][start:end]))
    return found


def test_the_generator_makes_the_file_to_the_byte(tmp_path: Path):
    assert make_records.main(["--output", str(tmp_path / "records.jsonl")]) == 0
    assert (tmp_path / "records.jsonl").read_bytes() == (DATA / "records.jsonl").read_bytes()


def test_the_file_is_small():
    assert (DATA / "records.jsonl").stat().st_size < 1.5e6


def test_languages_are_balanced(records):
    assert Counter(record["language"] for record in records) == {"en": 1000, "fr": 1000}


@pytest.mark.parametrize("language", ["en", "fr"])
def test_templates_are_many_and_of_several_registers(records, language: str):
    templates = Counter(record["template"] for record in records if record["language"] == language)
    assert len(templates) >= 40
    assert max(templates.values()) - min(templates.values()) <= 1
    assert set(templates) == set(make_records.templates(language))
    assert len({name.split("-")[1] for name in templates}) >= 8


def test_every_label_is_in_both_languages(values):
    assert len(values) == 16
    for texts in values.values():
        assert {language for language, _ in texts} == {"en", "fr"}


def test_spans_are_in_order_and_begin_and_end_with_text(records):
    for record in records:
        text, end = record["text"], 0
        for first, last, _ in record["spans"]:
            assert end <= first < last <= len(text)
            assert text[first:last] == text[first:last].strip()
            end = last


def test_texts_are_composed_and_no_slot_is_left(records):
    for record in records:
        assert unicodedata.is_normalized("NFC", record["text"])
        assert record["text"] == record["text"].strip()
        assert not re.search(r"\[\[|\]\]|\{\w+(:\w+)?\}|~", record["text"]), record["text"]


def test_every_value_is_marked_wherever_it_stands(records):
    """A text that is personal data in one place of a record is never left unmarked in another."""
    for record in records:
        text, spans = record["text"], record["spans"]
        for value in {text[start:end] for start, end, _ in spans if end - start > 3}:
            for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text):
                assert any(start <= match.start() and match.end() <= end for start, end, _ in spans), (value, text)


def test_nothing_that_looks_like_a_value_is_unmarked(records):
    months = "|".join(MONTHS["en"] + MONTHS["fr"])
    shapes = [
        r"\w@\w", r"https?://", r"\b\d{1,2}/\d{1,2}/\d{4}\b", r"\b\d{4}-\d\d-\d\b", rf"\b({months}) \d",
        rf"\d ({months})\b",
        r"\b[A-Z]{2}\d\d[ A-Z\d]{11,}", r"\b2001:db8:", r"\b(192\.0\.2|198\.51\.100|203\.0\.113)\.", r"(\d[ .-]?){9,}",
    ]  # fmt: skip
    for record in records:
        rest = list(record["text"])
        for start, end, _ in record["spans"]:
            rest[start:end] = " " * (end - start)
        for shape in shapes:
            assert not re.search(shape, "".join(rest)), (shape, record["text"])


def test_texts_are_of_the_kinds_that_the_readme_names(records):
    empty = [record for record in records if not record["spans"]]
    assert 0.1 <= len(empty) / len(records) <= 0.2
    assert any(record["spans"] and record["spans"][0][0] == 0 for record in records)
    assert any(record["spans"] and record["spans"][-1][1] == len(record["text"]) for record in records)
    repeated = [r for r in records if len({r["text"][a:b] for a, b, _ in r["spans"]}) < len(r["spans"])]
    assert len(repeated) > 200
    assert sum("\n" in record["text"] for record in records) > 500
    assert sum(len(record["spans"]) for record in records) > 10000


def test_mail_and_web_addresses_are_of_reserved_domains(values):
    for _, mail in values["EMAIL"]:
        assert re.fullmatch(r"[a-z0-9._-]+@(example\.(org|com|net)|mail\.example)", mail), mail
    for _, url in values["URL"]:
        assert re.match(r"https?://((www\.)?example\.(org|com|net)|[a-z0-9.-]+\.example)/", url), url


def test_phones_are_of_ranges_for_fiction(values):
    fiction = {
        "fr": r"(0|33)(19900|26191|35301|46571|53649|63998)\d{4}",
        "en": r"1?\d{3}55501\d\d|(0|44)(2079460\d{3}|1134960\d{3}|1614960\d{3}|1632960\d{3}|7700900\d{3}|8081570\d{3})",
    }
    for language, phone in values["PHONE"]:
        assert re.fullmatch(fiction[language], re.sub(r"\D", "", phone)), phone


def test_network_addresses_are_for_documentation(values):
    blocks = [
        ipaddress.ip_network(block) for block in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
    ]
    for _, address in values["IP"]:
        assert any(ipaddress.ip_address(address) in block for block in blocks), address


def test_account_numbers_have_right_check_digits_and_no_bank(values):
    for _, iban in values["IBAN"]:
        compact = iban.replace(" ", "")
        assert re.match(r"GB\d\dZZZZ000000|DE\d\d00000000|FR769999900000", compact), iban
        assert int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])) % 97 == 1
        if compact.startswith("FR"):
            assert (
                89 * int(compact[4:9]) + 15 * int(compact[9:14]) + 3 * int(compact[14:25]) + int(compact[25:])
            ) % 97 == 0


def test_cards_are_test_numbers(values):
    for _, card in values["CREDIT_CARD"]:
        digits = [int(digit) for digit in re.sub(r"\D", "", card)]
        doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
        assert (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
        assert re.sub(r"\D", "", card)[:4] in TEST_CARDS


def test_social_security_numbers_can_not_be_issued(values):
    for language, number in values["SSN"]:
        if language == "fr":
            digits = number.replace(" ", "")
            assert re.fullmatch(r"[12]\d{9}000\d\d", digits), number
            assert 97 - int(digits[:13]) % 97 == int(digits[13:])
        else:
            assert re.fullmatch(r"9\d\d-(0[1-9]|[1-4]\d)-\d{4}|QQ \d\d \d\d \d\d [A-D]", number), number


def test_plates_and_passports_are_of_series_that_are_not_issued(values):
    for language, plate in values["LICENSE_PLATE"]:
        issued = r"[A-Z][IOU]([- ])\d{3}\1[A-Z]{2}" if language == "fr" else r"[A-Z]{3}[- ]0000|[A-Z]{2}0[01] [A-Z]{3}"
        assert re.fullmatch(issued, plate), plate
    for language, number in values["PASSPORT"]:
        assert re.fullmatch(r"00[A-Z]{2}\d{5}" if language == "fr" else r"A?000\d{5,6}", number), number


def test_no_record_is_bad_or_nearly_another_one(tmp_path: Path, capsys: pytest.CaptureFixture, records):
    stage = Stage(tmp_path, settings_of(format="spans", label="language", group_by="template"), capsys)
    stage.run(DATA / "records.jsonl")
    facts = stage.facts("split")
    assert facts["kept"] == len(records)
    groups = {name: {row["group"] for row in stage.lines(name)} for name in ("train", "test")}
    assert groups["test"]
    assert not groups["train"] & groups["test"]


OTHER_LAYOUT = {"format": "spans", "columns": {"text": "source_text", "spans": "span_labels"}, "label": "language"}


def test_the_layout_with_span_labels_is_read(tmp_path: Path, capsys: pytest.CaptureFixture):
    stage = Stage(tmp_path, settings_of(**OTHER_LAYOUT, strip_span_label_numbers=True), capsys)
    assert stage.ingest(DATA / "span_labels.jsonl") == 0
    raw = read_jsonl(DATA / "span_labels.jsonl")
    for made, given in zip(stage.ingested(), raw, strict=True):
        marked = [[m["start"], m["end"], m["label"].rpartition("_")[0]] for m in given["privacy_mask"]]
        assert json.loads(made["spans"]) == marked
        assert json.loads(made["meta"]) == {"id": given["id"], "language": given["language"]}
    labels = {row["label"] for row in stage.facts("ingest")["spans"]["labels"]}
    assert labels == {"FIRSTNAME", "LASTNAME", "CITY", "EMAIL", "PHONENUMBER", "DATE"}


def in_other_layout(record: dict) -> dict:
    """Return a record with `span_labels` as text of a Python list: labels are numbered, gaps are labelled `O`."""
    pieces, place, seen = [], 0, Counter()
    for start, end, label in record["spans"]:
        seen[label] += 1
        pieces += [[place, start, "O"], [start, end, f"{label}_{seen[label]}"]]
        place = end
    pieces = [piece for piece in [*pieces, [place, len(record["text"]), "O"]] if piece[0] < piece[1]]
    return {"source_text": record["text"], "span_labels": str(pieces), "language": record["language"]}


def test_200_of_200_records_in_that_layout_are_read(tmp_path: Path, capsys: pytest.CaptureFixture, records):
    stage = Stage(tmp_path, settings_of(**OTHER_LAYOUT, strip_span_label_numbers=True), capsys)
    raw = write_lines(tmp_path / "raw.jsonl", [in_other_layout(record) for record in records[:200]])
    assert stage.ingest(raw) == 0
    assert [json.loads(row["spans"]) for row in stage.ingested()] == [record["spans"] for record in records[:200]]


def test_records_are_as_the_format_has_them(records):
    kept = []
    settings = settings_of(format="spans", label="language")
    ingest([("x", RawRow(f"x:{n}", record)) for n, record in enumerate(records)], settings, kept.append, None)
    for record, raw in zip(kept, records, strict=True):
        assert record.spans == raw["spans"]
        assert record.messages[0]["content"] == raw["text"]
