"""Redaction leaves nothing readable of what a classifier finds, in no field, and its facts repeat none of it."""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.canonical import from_row, read_rows, row_writer, to_row
from scripts.common.entities import entities_json, parse_entities
from scripts.common.files import read_json, write_manifest
from scripts.common.records import Record, content_id
from scripts.common.seals import seal_of
from scripts.predict import redact_records
from scripts.predict.redaction import Placeholders, Redactor, Replaced, disjoint, texts_of
from scripts.predict.span_model import SpanModel
from tests.support.dataset_steps import Stage, chat, settings_of, write_lines

TEMPLATE = "[{label}_{number}]"
TAGS = ["O", "B-EMAIL", "I-EMAIL", "B-PERSON", "I-PERSON"]


def conversation(*contents, **fields) -> Record:
    """Return a record of a user's and an assistant's messages in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]
    values = {"expected": contents[-1], "label": "fr", "origin": "raw.jsonl:1"} | fields
    return Record(content_id(messages), messages, **values)


def places(text: str, **labelled: str) -> list[list]:
    """Return where texts, named by their labels, first stand in a text."""
    return [[text.index(part), text.index(part) + len(part), label, 0.9] for label, part in labelled.items()]


def redacted(record: Record, found: dict[str, list[list]], template: str = TEMPLATE) -> Record:
    return Redactor(template).redact(record, found)


def contents(record: Record) -> list:
    return [message["content"] for message in record.messages]


def test_the_same_text_is_the_same_placeholder_in_all_messages():
    asked, answer = "Anna Roth writes to bob@x.org.", "Tell ANNA  ROTH and Bob Ray: eve@x.org"
    found = {
        asked: places(asked, PERSON="Anna Roth", EMAIL="bob@x.org"),
        answer: [*places(answer, PERSON="ANNA  ROTH", EMAIL="eve@x.org"), *places(answer, PERSON="Bob Ray")],
    }
    record = redacted(conversation(asked, answer), found)
    assert contents(record) == [
        "[PERSON_1] writes to [EMAIL_1].",
        "Tell [PERSON_1] and [PERSON_2]: [EMAIL_2]",
    ]
    assert record.expected == contents(record)[1]
    assert record.id == content_id(record.messages)


def test_what_was_found_once_is_replaced_wherever_it_stands_as_a_word():
    asked, answer = "Mail from Rosa Lind.", "Rosa Lind, not Rosa Linden, not deRosa Lind; Rosa."
    redactor = Redactor(TEMPLATE)
    record = redactor.redact(conversation(asked, answer), {asked: places(asked, PERSON="Rosa Lind")})
    assert contents(record) == ["Mail from [PERSON_1].", "[PERSON_1], not Rosa Linden, not deRosa Lind; Rosa."]
    assert (redactor.entities["PERSON"], redactor.counts["repeated"]) == (2, 1)
    short = redacted(conversation("Al here.", "Hi Al, Al Dente"), {"Al here.": [[0, 2, "PERSON", 1.0]]})
    assert contents(short) == ["[PERSON_1] here.", "Hi Al, Al Dente"]


def test_what_was_found_once_is_replaced_in_any_case_and_over_any_white_space():
    asked = "Anna Berg, Jörg Weiß, Ilse İpek, (K) Noor."
    answer = "ANNA BERG and anna\n berg, JÖRG WEISS, ilse ipek, ilse ıpek, (k) NOOR, but no bergen"
    found = {asked: places(asked, PERSON="Anna Berg", NAME="Jörg Weiß") + places(asked, X="Ilse İpek", Y="(K) Noor")}
    redactor = Redactor(TEMPLATE)
    record = redactor.redact(conversation(asked, answer), found)
    assert contents(record)[0] == "[PERSON_1], [NAME_1], [X_1], [Y_1]."
    said = contents(record)[1]
    assert re.sub(r"\[X_\d\]", "[X]", said) == ("[PERSON_1] and [PERSON_1], [NAME_1], [X], [X], [Y_1], but no bergen")
    assert redactor.counts["repeated"] == 6


def test_texts_that_differ_in_case_only_have_the_label_of_the_first():
    first, second = "Anna Berg here.", "At ANNA BERG."
    found = {first: places(first, PERSON="Anna Berg"), second: places(second, ORG="ANNA BERG")}
    record = redacted(conversation(first, second, "anna berg?", "No."), found)
    assert contents(record)[:3] == ["[PERSON_1] here.", "At [ORG_1].", "[PERSON_1]?"]


def test_an_expected_answer_of_its_own_is_redacted_too():
    record = conversation("Who is it?", "Lena Moor.", expected="Moor, Lena Moor")
    found = {"Lena Moor.": [[0, 9, "PERSON", 1.0]], "Moor, Lena Moor": [[0, 4, "PERSON", 1.0]]}
    assert redacted(record, found).expected == "[PERSON_2], [PERSON_1]"


def test_fields_beside_the_messages_go_and_the_group_becomes_a_class():
    record = conversation("q", "a", meta={"author": {"name": "Lena Moor"}}, group="lena@x.org")
    twin = conversation("q2", "a", group="lena@x.org")
    other = conversation("q3", "a", group="bob@x.org")
    made, same, different = (redacted(each, {}) for each in (record, twin, other))
    assert made.meta == {}
    assert made.group == same.group != different.group
    assert re.fullmatch(r"group-[0-9a-f]{4}", made.group)
    assert (made.label, made.origin) == (record.label, record.origin)
    assert redacted(conversation("q", "a"), {}).group is None


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


def test_a_placeholder_that_the_text_has_already_is_not_used_again():
    text = "[PERSON_1] met Lena Moor"
    assert contents(redacted(conversation(text, "a"), {text: places(text, PERSON="Lena Moor")}))[0] == (
        "[PERSON_1] met [PERSON_2]"
    )


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ("<{label}>", "<EMAIL>, <EMAIL>"),
        ("{label}-{number}", "EMAIL-1, EMAIL-2"),
        ("{label} {0}", "EMAIL {0}, EMAIL {0}"),
    ],
)
def test_placeholders_follow_the_template_and_nothing_in_it_is_run(template: str, made: str):
    text = "a@x.org, b@x.org"
    found = {text: [[0, 7, "EMAIL", 1.0], [9, 16, "EMAIL", 1.0]]}
    assert contents(redacted(conversation(text, "a"), found, template))[0] == made


def test_overlapping_places_become_one_and_lose_their_white_space():
    text = "abcdefgh ij  kl"
    found = [[4, 9, "B", 1], [0, 6, "A", 1], [8, 9, "C", 1], [10, 13, "D", 1]]
    assert disjoint(text, found) == [(0, 8, "A"), (9, 11, "D")]
    assert disjoint(text, [[0, 2, "A", 1], [1, 8, "B", 1]]) == [(0, 8, "B")]
    assert disjoint(text, [[0, 8, "A", 1], [2, 4, "B", 1], [4, 6, "C", 1]]) == [(0, 8, "A")]


def test_a_finding_grows_to_whole_words_where_words_are_parted():
    for text, place, grown in (
        ("Rosalind,", (2, 5), (0, 8)),
        ("Ưng Hoà.", (4, 5), (4, 7)),
        ("a.roth84@x.org", (3, 7), (2, 8)),
        ("田中太郎さん", (0, 2), (0, 2)),
        ("x 田b", (3, 4), (3, 4)),
    ):
        assert disjoint(text, [[*place, "A", 1.0]]) == [(*grown, "A")]
    assert disjoint("Rosalind", [[0, 2, "A", 1], [3, 6, "B", 1]]) == [(0, 8, "B")]


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
def classifier(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a token classifier whose head is random: it finds something in most texts."""
    from scripts.common.classifier_head import Head, save_head
    from scripts.train.merge_head import merge_head

    folder = tmp_path_factory.mktemp("classifier")
    hidden = read_json(tiny_base.parent / "config.json")["hidden_size"]
    (folder / "adapter").mkdir()
    config = {
        "labels": TAGS,
        "dropout": 0.0,
        "hidden_size": hidden,
        "load_in_4bit": False,
        "precision": "fp32",
        "layer": 1,
        "base_layers": 1,
    }
    save_head(folder / "adapter", Head(hidden, len(TAGS), deviation=1.0, seed=3), config)
    merge_head(write_manifest(folder / "adapter", method="head", base={}), tiny_base, folder / "merged")
    return folder / "merged/manifest.json"


def run_step(folder: Path, ingested: Path, model: Path, labels: list[str] | None = None) -> int:
    settings = {
        "redact": {"labels": labels, "placeholder": TEMPLATE},
        "tokens": {"max_length": 48, "window_overlap": 16},
        "training": {"precision": "fp32"},
        "generation": {"batch_size": 4, "load_in_4bit": "auto"},
    }
    return redact_records.main(
        [
            str(ingested),
            *("--model", str(model), "--output", str(folder / "redacted.parquet")),
            *("--facts", str(folder / "redaction.json"), "--settings", json.dumps(settings)),
        ]
    )


RECORDS = [
    conversation("Écrire à Zoé Müller, zoe@example.org", "Zoé Müller est absente.", meta={"by": "Zoé"}, group="zoe"),
    conversation("But de la tête à la 23e minute.\nLe gardien était battu : 06 39 98 00 00.", "Carton jaune pour Bob."),
    conversation("Once upon a time", "there was a small model that could hardly speak to Anna Roth."),
]


@pytest.fixture
def ingested(tmp_path: Path) -> Path:
    with row_writer(tmp_path / "ingested.parquet") as writer:
        for record in RECORDS:
            writer.write(to_row(record))
    return tmp_path / "ingested.parquet"


def test_the_step_replaces_all_that_the_classifier_finds(ingested: Path, classifier: Path, tmp_path: Path):
    assert run_step(tmp_path, ingested, classifier) == 0
    model = SpanModel(classifier, "fp32", 48, 16, 4)
    made = [from_row(row) for row in read_rows(tmp_path / "redacted.parquet")]
    assert len(made) == len(RECORDS)
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


def test_the_step_writes_the_same_again(ingested: Path, classifier: Path, tmp_path: Path):
    names = ("redacted.parquet", "redaction.json")
    assert run_step(tmp_path, ingested, classifier) == 0
    first = [(tmp_path / name).read_bytes() for name in names]
    assert run_step(tmp_path, ingested, classifier) == 0
    assert [(tmp_path / name).read_bytes() for name in names] == first


def test_only_the_wanted_labels_are_replaced(ingested: Path, classifier: Path, tmp_path: Path, capsys):
    assert run_step(tmp_path, ingested, classifier, ["PERSON"]) == 0
    facts = read_json(tmp_path / "redaction.json")
    assert [row["label"] for row in facts["labels"]] == ["PERSON"]
    text = json.dumps([row["messages"] for row in read_rows(tmp_path / "redacted.parquet")])
    assert "[PERSON_1]" in text
    assert "[EMAIL_" not in text
    assert run_step(tmp_path, ingested, classifier, ["PHONE"]) == 1
    assert "the model finds no 'PHONE'; name some of its labels: EMAIL, PERSON" in capsys.readouterr().err


def test_no_raw_text_is_in_the_splits_or_the_ledger(classifier: Path, tmp_path: Path, capsys):
    """The secret is bad in one record, violates a check in another, and is a field of all."""
    settings = settings_of(
        group_by="who",
        splits={"train": 0.5, "validation": 0.0, "test": 0.5},
        checks=[{"must_match": "z"}],
        on_bad_record="quarantine",
    )
    stage = Stage(tmp_path, settings, capsys)
    rng = random.Random(1)
    texts = [" ".join("".join(rng.choices("abcdefgh", k=6)) for _ in range(20)) for _ in range(30)]
    rows = [chat(text, "answer", who=f"SECRET-{n}", note="SECRET") for n, text in enumerate(texts)]
    rows += [chat("SECRET", "", who="SECRET"), {"messages": "SECRET"}]
    assert stage.ingest(write_lines(tmp_path / "raw.jsonl", rows)) == 0
    assert run_step(tmp_path, tmp_path / "ingested.parquet", classifier) == 0
    (tmp_path / "redacted.parquet").replace(tmp_path / "ingested.parquet")
    seal_of(tmp_path / "ingested.parquet").unlink()
    assert stage.split() == 0
    assert stage.write_ledger("--redaction", str(tmp_path / "redaction.json")) == 0
    for name in ("train.jsonl", "test.jsonl", "duplicates.jsonl", "redaction.json", "ledger.json", "ledger.html"):
        assert "SECRET" not in (tmp_path / name).read_text(encoding="utf-8"), name
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    assert "<h2>Redaction</h2>" in page
    assert "raw.jsonl:31" in page
