"""The example data of personal data: made anew to the byte, balanced, rightly marked, and about nobody."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from data.pii import make_records
from data.pii.values import MONTHS
from scripts.common.files import read_jsonl
from tests.support.data import load
from tests.support.dataset_steps import Stage, settings_of

DATA = Path(__file__).parents[2] / "data/pii"
FORMS = load("values_of_nobody.yaml")


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return list(read_jsonl(DATA / "records.jsonl"))


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


def test_languages_templates_and_labels_are_balanced(records, values):
    assert Counter(record["language"] for record in records) == {"en": 1000, "fr": 1000}
    templates = {record["template"] for record in records}
    assert templates == {*make_records.templates("en"), *make_records.templates("fr")}
    assert len(values) == 16
    assert all({language for language, _ in texts} == {"en", "fr"} for texts in values.values())
    assert sum(not record["spans"] for record in records) == 310


def test_every_value_is_marked_wherever_it_stands(records):
    """A text that is personal data in one place of a record is never left unmarked in another, nor what looks so."""
    months = "|".join(MONTHS["en"] + MONTHS["fr"])
    shape = re.compile("|".join(f"(?:{shape})" for shape in FORMS["unmarked"]).replace("MONTHS", months))
    for record in records:
        text, spans = record["text"], record["spans"]
        assert not re.search(r"\[\[|\]\]|\{\w+(:\w+)?\}|~", text), "a slot of the template is left"
        for value in {text[start:end] for start, end, _ in spans if end - start > 3}:
            for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text):
                assert any(start <= match.start() and match.end() <= end for start, end, _ in spans), (value, text)
        rest = list(text)
        for start, end, _ in spans:
            rest[start:end] = " " * (end - start)
        assert not shape.search("".join(rest)), text


@pytest.mark.parametrize("label", FORMS["forms"])
def test_values_are_of_reserved_or_never_issued_ranges(values, label):
    forms = FORMS["forms"][label]
    for language, value in values[label]:
        bare = re.sub(r"\D", "", value) if label in ("PHONE", "CREDIT_CARD") else value
        assert re.fullmatch(forms if isinstance(forms, str) else forms[language], bare), value


def test_check_digits_are_right(values):
    for _, iban in values["IBAN"]:
        compact = iban.replace(" ", "")
        assert int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])) % 97 == 1
        if compact.startswith("FR"):
            bank, branch, account, key = (int(compact[a:b]) for a, b in ((4, 9), (9, 14), (14, 25), (25, 27)))
            assert (89 * bank + 15 * branch + 3 * account + key) % 97 == 0
    for _, card in values["CREDIT_CARD"]:
        digits = [int(digit) for digit in re.sub(r"\D", "", card)]
        doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
        assert (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    for digits in (number.replace(" ", "") for language, number in values["SSN"] if language == "fr"):
        assert 97 - int(digits[:13]) % 97 == int(digits[13:])


def test_the_layout_with_span_labels_is_read(tmp_path: Path, capsys: pytest.CaptureFixture):
    other = {"format": "spans", "columns": {"text": "source_text", "spans": "span_labels"}, "label": "language"}
    stage = Stage(tmp_path, settings_of(**other, strip_span_label_numbers=True), capsys)
    assert stage.ingest(DATA / "span_labels.jsonl") == 0
    for made, given in zip(stage.ingested(), read_jsonl(DATA / "span_labels.jsonl"), strict=True):
        marked = [[m["start"], m["end"], m["label"].rpartition("_")[0]] for m in given["privacy_mask"]]
        assert json.loads(made["spans"]) == marked
        assert json.loads(made["meta"]) == {"id": given["id"], "language": given["language"]}
    labels = {row["label"] for row in stage.facts("ingest")["spans"]["labels"]}
    assert labels == {"FIRSTNAME", "LASTNAME", "CITY", "EMAIL", "PHONENUMBER", "DATE"}
