"""Redaction leaves nothing readable of what a classifier finds, in no field, and its facts repeat none of it."""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.checksums import checksum_path
from scripts.common.files import read_json, write_manifest
from scripts.common.records import Record, content_id
from scripts.dataset.canonical import from_row, read_rows, row_writer, to_row
from scripts.dataset.entities import entities_json, parse_entities
from scripts.predict import redact_records
from scripts.predict.redaction import Placeholders, Redactor, Replaced, disjoint, texts_of
from scripts.predict.span_model import SpanModel
from scripts.train.classifier_head import Head, save_head
from scripts.train.merge_head import merge_head
from tests.support.data import load
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines
from tests.support.span_data import answer_settings

TEMPLATE = "[{label}_{number}]"
TAGS = ["O", "B-EMAIL", "I-EMAIL", "B-PERSON", "I-PERSON"]
CASES = load("redaction.yaml")


def conversation(*contents, **fields) -> Record:
    """Return a record of a user's and an assistant's messages in turn."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
    values = {"expected": contents[-1], "label": "fr", "origin": "raw.jsonl:1"} | fields
    return Record(content_id(messages), messages, **values)


def contents(record: Record) -> list:
    return [message["content"] for message in record.messages]


@pytest.mark.parametrize("name", CASES)
def test_what_is_found_is_replaced(name):
    case, redactor = CASES[name], Redactor(CASES[name].get("template", TEMPLATE))
    texts = [*case["texts"], *([case["expected"]] if "expected" in case else [])]
    found = {
        text: [[text.index(part), text.index(part) + len(part), label, 0.9] for label, part in entities]
        for text, entities in zip(texts, case["found"], strict=False)
    }
    made = redactor.redact(conversation(*case["texts"], expected=texts[-1]), found)
    assert [*contents(made), *([made.expected] if "expected" in case else [])] == case["left"]
    assert made.expected == case["left"][-1]
    assert made.id == content_id(made.messages)
    assert redactor.counts["repeated"] == case.get("repeated", redactor.counts["repeated"])


def test_fields_beside_the_messages_go_and_the_group_becomes_a_class():
    record = conversation("q", "a", meta={"author": {"name": "Lena Moor"}}, group="lena@x.org")
    others = conversation("q2", "a", group="lena@x.org"), conversation("q3", "a", group="bob@x.org")
    made, same, different = (Redactor(TEMPLATE).redact(each, {}) for each in (record, *others))
    assert made.meta == {}
    assert made.group == same.group != different.group
    assert re.fullmatch(r"group-[0-9a-f]{4}", made.group)
    assert (made.label, made.origin) == (record.label, record.origin)
    assert Redactor(TEMPLATE).redact(conversation("q", "a"), {}).group is None


def test_text_parts_are_redacted_and_images_stay_and_are_counted():
    image = {"type": "image", "image": "images/0.png"}
    content = [image, {"type": "text", "text": "Lena Moor"}]
    redactor = Redactor(TEMPLATE)
    record = redactor.redact(conversation(content, "Lena Moor"), {"Lena Moor": [[0, 9, "PERSON", 1.0]]})
    assert contents(record) == [[image, {"type": "text", "text": "[PERSON_1]"}], "[PERSON_1]"]
    assert content[1]["text"] == "Lena Moor"
    assert redactor.counts["images"] == 1


def test_spans_of_a_record_move_or_go_and_the_answer_is_made_of_them():
    text = "Anna Roth, 12 May 2024, Lens: arot@x.org"
    spans = [[0, 9, "NAME"], [11, 22, "DATE"], [24, 28, "CITY"], [30, 40, "MAIL"]]
    record = conversation(text, entities_json(text, spans), spans=spans)
    redactor = Redactor(TEMPLATE)
    made = redactor.redact(record, {text: [[0, 4, "PERSON", 1.0], [14, 18, "X", 1.0]]})
    asked = contents(made)[0]
    assert asked == "[PERSON_1] Roth, 12 [X_1] 2024, Lens: arot@x.org"
    assert [asked[a:b] for a, b, _ in made.spans] == ["Lens", "arot@x.org"]
    assert parse_entities(made.expected, asked) == (made.spans, 0)
    assert made.expected == contents(made)[1]
    assert made.id == content_id(made.messages, made.spans)
    assert (redactor.counts["spans_moved"], redactor.counts["spans_dropped"]) == (2, 2)


SPAN = st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from(["A", "B"])).map(
    lambda span: [min(span[:2]), max(span[:2]), span[2], 0.5]
)


@given(st.text("abc \n", max_size=40), st.lists(SPAN), st.lists(SPAN))
def test_all_that_is_found_goes_and_the_rest_stays(text: str, found: list[list], spans: list[list]):
    found = [span for span in found if span[0] < span[1] <= len(text)]
    spans = [span[:3] for span in spans if span[0] < span[1] <= len(text)]
    taken = disjoint(text, found)
    covered = {n for start, end, *_ in found for n in range(start, end) if not text[n].isspace()}
    assert covered <= {n for start, end, _ in taken for n in range(start, end)}
    words = [match.span() for match in re.finditer(r"\w+", text)]
    touched = [(a, b) for a, b in words if any(a < end and start < b for start, end, *_ in found)]
    assert {n for a, b in touched for n in range(a, b)} <= {n for start, end, _ in taken for n in range(start, end)}
    assert {start for start, *_ in taken} <= {a for a, _ in touched}
    assert {end for _, end, _ in taken} <= {b for _, b in touched}
    new = Replaced(text, taken, Placeholders("<{label}>", [text]))
    edges = [0, *(place for start, end, _ in taken for place in (start, end)), len(text)]
    assert re.split(r"<[AB]>", new.text) == [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    moved = new.moved(spans)
    free = [span for span in spans if not any(span[0] < end and start < span[1] for start, end, _ in taken)]
    assert [new.text[a:b] for a, b, _ in moved] == [text[a:b] for a, b, _ in free]


@pytest.fixture(scope="module")
def classifier(tiny_base, tmp_path_factory) -> Path:
    """The manifest of a token classifier whose head is random: it finds something in most texts."""
    folder = tmp_path_factory.mktemp("classifier")
    hidden = read_json(tiny_base.parent / "config.json")["hidden_size"]
    config = {"labels": TAGS, "dropout": 0.0, "hidden_size": hidden, "load_in_4bit": False, "precision": "fp32"}
    (folder / "adapter").mkdir()
    head = Head(hidden, len(TAGS), deviation=1.0, seed=3)
    save_head(folder / "adapter", head, {**config, "layer": 1, "base_layers": 1})
    merge_head(write_manifest(folder / "adapter", method="head", base={}), tiny_base, folder / "merged")
    return folder / "merged/manifest.json"


@pytest.fixture
def redact(classifier, tmp_path):
    """A function that runs the step on ingested.parquet; returns the exit status."""

    def run(labels: list[str] | None = None) -> int:
        settings = {"redact": {"labels": labels, "placeholder": TEMPLATE}, **answer_settings(48, 16)}
        words = [tmp_path / "ingested.parquet", "--model", classifier, "--output", tmp_path / "redacted.parquet"]
        words += ["--facts", tmp_path / "redaction.json", "--settings", json.dumps(settings)]
        return redact_records.main([*map(str, words)])

    return run


RECORDS = [
    conversation("Écrire à Zoé Müller, zoe@example.org", "Zoé Müller est absente.", meta={"by": "Zoé"}, group="zoe"),
    conversation("But de la tête à la 23e minute.\nLe gardien était battu : 06 39 98 00 00.", "Carton jaune pour Bob."),
    conversation("Once upon a time", "there was a small model that could hardly speak to Anna Roth."),
]


@pytest.fixture
def ingested(tmp_path) -> None:
    """Write the records as the step before does."""
    with row_writer(tmp_path / "ingested.parquet") as writer:
        for record in RECORDS:
            writer.write(to_row(record))


@pytest.mark.usefixtures("ingested")
def test_the_step_replaces_all_that_the_classifier_finds_and_writes_the_same_again(redact, classifier, tmp_path):
    assert redact() == 0
    model = SpanModel(classifier, answer_settings(48, 16))
    made = [from_row(row) for row in read_rows(tmp_path / "redacted.parquet")]
    total = 0
    for before, after in zip(RECORDS, made, strict=True):
        texts = texts_of(before)
        found = dict(zip(texts, model.entities(texts), strict=True))
        assert after == Redactor(TEMPLATE).redact(before, found)
        total += sum(len(disjoint(text, entities)) for text, entities in found.items())
    facts = read_json(tmp_path / "redaction.json")
    assert total > 5
    assert facts["entities"] == total + facts["repeated"] == sum(row["entities"] for row in facts["labels"])
    assert facts["records"] == 3 >= facts["records_changed"] > 0
    assert facts["records_whose_meta_was_dropped"] == 1
    assert set(facts["examples"]) <= {"\n".join(contents(record)) for record in made}
    written = [tmp_path / name for name in ("redacted.parquet", "redaction.json")]
    first = [path.read_bytes() for path in written]
    assert redact() == 0
    assert [path.read_bytes() for path in written] == first


@pytest.mark.usefixtures("ingested")
def test_only_the_wanted_labels_are_replaced(redact, tmp_path, capsys):
    assert redact(["PERSON"]) == 0
    assert [row["label"] for row in read_json(tmp_path / "redaction.json")["labels"]] == ["PERSON"]
    text = json.dumps([row["messages"] for row in read_rows(tmp_path / "redacted.parquet")])
    assert "[PERSON_1]" in text
    assert "[EMAIL_" not in text
    assert redact(["PHONE"]) == 1
    assert "the model finds no 'PHONE'; name some of its labels: EMAIL, PERSON" in capsys.readouterr().err


def test_no_raw_text_is_in_the_splits_or_the_ledger(redact, tmp_path, capsys):
    """The secret is bad in one record, violates a check in another, and is a field of all."""
    splits = {"train": 0.5, "validation": 0.0, "test": 0.5}
    settings = {"checks": [{"must_match": "z"}], "on_bad_record": "quarantine"}
    stage = Stage(tmp_path, settings_of(group_by="who", splits=splits, **settings), capsys)
    rng = random.Random(1)
    texts = [" ".join("".join(rng.choices("abcdefgh", k=6)) for _ in range(20)) for _ in range(30)]
    rows = [chat(text, "answer", who=f"SECRET-{n}", note="SECRET") for n, text in enumerate(texts)]
    rows += [chat("SECRET", "", who="SECRET"), {"messages": "SECRET"}]
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", rows)) == 0
    assert redact() == 0
    (tmp_path / "redacted.parquet").replace(tmp_path / "ingested.parquet")
    checksum_path(tmp_path / "ingested.parquet").unlink()
    assert stage.split() == 0
    assert stage.write_ledger("--redaction", str(tmp_path / "redaction.json")) == 0
    for name in ("train.jsonl", "test.jsonl", "duplicates.jsonl", "redaction.json", "ledger.json", "ledger.html"):
        assert "SECRET" not in (tmp_path / name).read_text(encoding="utf-8"), name
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    assert "<h2>Redaction</h2>" in page
    assert "raw.jsonl:31" in page
