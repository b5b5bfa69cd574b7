"""Records that hold images: read from every layout, compared, split, augmented and counted like any other."""

import base64
import io
import json
import random
import re
from pathlib import Path

import pytest
from PIL import Image

from scripts.common.records import content_id, images_of
from scripts.dataset.augment import Augmenter
from scripts.dataset.ledger import without_raw_texts
from scripts.dataset.raw_rows import BadRecordError
from tests.support.dataset_steps import Stage, chat, made, settings_of, write_lines
from tests.support.pictures import encoded, looking, picture

IMAGE = {"type": "image", "image": "a.png"}
TEXT = {"type": "text", "text": "Titre ?"}
ANSWER = {"role": "assistant", "content": "Le sel"}
HALVES = {"train": 0.5, "validation": 0.0, "test": 0.5}


@pytest.fixture
def stage(tmp_path: Path, capsys: pytest.CaptureFixture) -> Stage:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.png").write_bytes(encoded(picture(seed=number)))
    return Stage(tmp_path, settings_of(images=str(folder), splits=HALVES), capsys)


def test_expected_is_scored_and_the_answer_is_trained_on():
    record = made(chat("q", "Le sel.", expected=" Le sel", page=3))
    assert (record.answer, record.expected, record.meta) == ("Le sel.", "Le sel", {"page": 3})
    assert [made(chat("q", "a", expected=empty)).expected for empty in (None, "", " \n")] == ["a"] * 3
    for unusable in (None, "", " \n", 1984):
        with pytest.raises(BadRecordError, match=r"not end with an assistant message|message 2 .* is empty|number"):
            made(looking("a.png", answer=None, expected=unusable))
    fields = {"user": "{{ expected }} ?", "assistant": "{{ expected }}"}
    record = made({"expected": "b"}, format="fields", fields=fields)
    assert (record.expected, record.meta) == ("b", {"expected": "b"}), "a field like others where templates read it"


def test_records_with_different_images_are_never_duplicates_and_have_another_id(stage: Stage, tmp_path: Path):
    (tmp_path / "pictures/copy.png").write_bytes((tmp_path / "pictures/3.png").read_bytes())
    question = "Quel est le titre imprimé en haut de la première page de ce document ?"
    same = {"question": question, "answer": "Rapport annuel"}
    near = looking("7.png", question=question.replace("?", "…"), answer="Rapport annuel")
    records = [*(looking(f"{number}.png", **same) for number in range(40)), near]
    records += [looking("7.png", "8.png", **same), looking("8.png", "7.png", **same), looking("copy.png", **same)]
    stage.run(write_lines(tmp_path / "raw.jsonl", records))
    found = {row["origin"][-3:]: (row["kind"], row["duplicate_of"]["origin"][-2:]) for row in stage.lines("duplicates")}
    assert found == {":41": ("near", ":8"), ":44": ("exact", ":4")}
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    assert re.search('<img src="data:image/jpeg[^>]+><figcaption class="soft">7.png</figcaption>', page)
    kept = stage.records()
    assert len(kept) == len({row["id"] for row in kept}) == 42
    [name] = next(images_of(json.loads(row["messages"])) for row in kept if row["origin"].endswith(":4"))
    assert re.fullmatch(r"images/[0-9a-f]{64}\.png", name)
    assert (tmp_path / name).read_bytes() == (tmp_path / "pictures/3.png").read_bytes()


def test_records_with_the_same_images_share_a_split(stage: Stage, tmp_path: Path):
    rng = random.Random(3)
    questions = ((number, turn, " ".join(rng.choices("abcdefgh", k=20))) for number in range(40) for turn in range(3))
    records = [looking(f"{n}.png", question=question, answer=f"{n} {turn}") for n, turn, question in questions]
    stage.run(write_lines(tmp_path / "raw.jsonl", records))
    train, test = ({images_of(row["messages"])[0] for row in stage.lines(split)} for split in ("train", "test"))
    assert len(train) + len(test) == len(train | test) == 40
    assert min(len(train), len(test)) > 0


def test_an_augmented_record_keeps_its_images():
    record = made({"messages": [{"role": "user", "content": [IMAGE, TEXT, IMAGE]}, ANSWER]})
    augmenter = Augmenter({"copies": 1, "templates": ["Bref : {{ user }}"]})
    (variant,) = augmenter.variants(record)
    assert variant.messages[0]["content"] == [IMAGE, {"type": "text", "text": "Bref : Titre ?"}, IMAGE]
    assert record.messages[0]["content"] == [IMAGE, TEXT, IMAGE]
    assert variant.id == content_id(variant.messages) != record.id


def test_the_ledger_counts_and_shows_images(stage: Stage, tmp_path: Path):
    attack = "<script>'\"&.png"
    for name, drawn in (("big.png", picture(size=(500, 250), seed=77)), (attack, picture(seed=78))):
        (tmp_path / "pictures" / name).write_bytes(encoded(drawn))
    records = [looking("big.png", answer="Grand"), looking(attack, answer="<b>Piège</b>"), chat("Qui ?", "Personne.")]
    records += [looking(f"{n}.png", f"{n + 1}.png", answer=f"Titre {n}") for n in range(10)]
    stage.run(write_lines(tmp_path / "raw.jsonl", records))
    ledger = stage.facts("ledger")["images"]
    assert (ledger["records"], ledger["images"], ledger["distinct"]) == (12, 22, 13)
    assert ledger["per_record"] == [{"images": 1, "records": 2}, {"images": 2, "records": 10}]
    assert (ledger["sizes"]["width"]["maximum"], ledger["sizes"]["height"]["minimum"]) == (500, 8)
    assert ledger["bytes"] == sum(entry["bytes"] for entry in stage.facts("images/manifest")["files"].values())
    shown = [{name for row in stage.lines(split) for name in images_of(row["messages"])} for split in ("train", "test")]
    assert ledger["in_several_splits"] == len(set.intersection(*shown)) > 0
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    sources = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(source))).size for source in sources]
    assert sizes == [(160, 80), *[(12, 8)] * 7]
    assert "in more than one split" in page
    assert "&lt;b&gt;Piège&lt;/b&gt;" in page
    assert "<script" not in page
    assert without_raw_texts(stage.facts("ledger"))["images"] == ledger | {"examples": []}
