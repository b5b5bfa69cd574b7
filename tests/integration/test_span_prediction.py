"""A merged token classifier finds entities, in windows, in any company, and goes on after an interruption."""

import itertools
import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.dataset.entities import parse_entities
from scripts.predict.predict_spans import main
from scripts.predict.span_model import SpanModel
from scripts.train.merge_head import merge_head
from tests.support.span_data import answer_settings, head_settings, span_record
from tests.support.training import make_data, train_in

SETTINGS = head_settings(
    tokens={"max_length": 64, "window_overlap": 16},
    head={"dropout": 0.0},
    training={"epochs": 60, "learning_rate": 0.02, "micro_batch": 4, "logging_steps": 100, "keep_best": False},
)


@pytest.fixture(scope="module")
def project(tiny_base, tmp_path_factory) -> Path:
    """A folder with a dataset and a classifier that has learnt its training split by heart."""
    folder = make_data(tmp_path_factory.mktemp("project"), tiny_base, SETTINGS)
    train_in(folder, tiny_base, folder, SETTINGS)
    merge_head(folder / "adapter" / "manifest.json", tiny_base, folder / "merged")
    return folder


@pytest.fixture(scope="module")
def model(project) -> SpanModel:
    return SpanModel(project / "merged" / "manifest.json", answer_settings(64, 16))


def texts_of(numbers) -> list[str]:
    return [span_record(number).messages[0]["content"] for number in numbers]


def test_what_was_learnt_is_found_at_its_exact_place(model):
    records = [span_record(number) for number in range(24)]
    found = model.entities([record.messages[0]["content"] for record in records])
    gold = {(i, *span) for i, record in enumerate(records) for span in record.spans}
    named = {(i, *entity[:3]) for i, entities in enumerate(found) for entity in entities}
    assert len(gold & named) > 0.8 * len(gold | named)
    assert all(0 < score <= 1 for entities in found for *_, score in entities)
    assert all(entities == sorted(entities) for entities in found)
    assert model.labels == ["CITY", "EMAIL", "PERSON"]


def test_probabilities_are_those_of_plain_transformers(model, project):
    plain = AutoModelForTokenClassification.from_pretrained(project / "merged", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(project / "merged")
    (text,) = texts_of([26])
    inputs = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        expected = plain(**inputs).logits[0].softmax(-1)
    (probabilities,) = model.classify([inputs["input_ids"][0].tolist()])
    assert torch.allclose(probabilities, expected, atol=1e-5)


def test_an_entity_is_made_of_whole_words(model):
    """Each edge is a word's or a mark's, in a text of words that were not learnt and are cut by windows."""
    text = " ".join(
        f"Éloïsabeth{n} Żurbrügg-{n}kowska écrit42 à x{n}yz@mail{n}.example.fr, {n * 7919}e." for n in range(12)
    )
    inside = {place for word in re.finditer(r"\w+", text) for place in range(word.start() + 1, word.end())}
    (found,) = model.entities([text])
    assert len(model.encode(text).ids) > 3 * model.max_length
    assert len(found) > 10
    assert not inside & {edge for start, end, *_ in found for edge in (start, end)}


def test_a_texts_entities_do_not_depend_on_the_others(model):
    texts = texts_of(range(30, 42))
    together = model.entities(texts)
    assert together == [model.entities([text])[0] for text in texts]
    assert together == model.entities(texts[::-1])[::-1]
    assert any(together)
    assert model.entities([]) == []
    assert model.entities([""]) == [[]]


def test_a_long_text_is_read_to_its_end_in_windows(model, project):
    texts = texts_of(range(24))
    long = "\n\n".join(texts)
    assert len(model.encode(long).ids) > 5 * model.max_length
    (found,) = model.entities([long])
    starts = [(long.index(text), span_record(number).spans) for number, text in enumerate(texts)]
    gold = {(start + first, start + last, name) for start, spans in starts for first, last, name in spans}
    named = {tuple(entity[:3]) for entity in found}
    assert max(end for _, end, _ in named) > 0.9 * len(long)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))
    assert len([start for start, *_ in gold & named if start > len(long) / 2]) > 4
    # The first window has what a window over more text has there.
    wide = SpanModel(project / "merged/manifest.json", answer_settings(512, 64))
    text = "\n".join(texts[:4])
    (whole,), (windowed,) = wide.entities([text]), model.entities([text])
    inside = [entity[:3] for entity in whole if entity[1] < wide.encode(text).offsets[62][1]]
    assert inside
    assert [entity[:3] for entity in windowed][: len(inside)] == inside


def predict(project, folder) -> int:
    words = [project / "merged/manifest.json", "--test", project / "dataset/test.jsonl", "--answers"]
    words += [folder / "answers/merged.jsonl", "--likelihood", folder / "likelihood.jsonl", "--threads", "2"]
    return main([*map(str, words), "--settings", json.dumps(SETTINGS)])


def rows_of(folder: Path) -> list[dict]:
    rows = read_jsonl(folder / "answers/merged.jsonl")
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_answers_hold_gold_spans_entities_and_their_json_also_after_an_interruption(project, tmp_path, monkeypatch):
    assert predict(project, tmp_path / "whole") == 0
    rows = rows_of(tmp_path / "whole")
    assert (tmp_path / "whole/likelihood.jsonl").read_bytes() == b""
    for row, record in zip(rows, read_jsonl(project / "dataset/test.jsonl"), strict=True):
        text = row["messages"][-1]["content"]
        assert (row["id"], row["spans"]) == (record["id"], record["spans"])
        assert (row["prompt_set"], row["stop"], row["label"]) == ("test", "end", "fr")
        spans, missing = parse_entities(row["answer"], text)
        assert [text[a:b] for a, b, _ in spans] == [text[a:b] for a, b, *_ in row["entities"]]
        assert missing == 0
    entities_of, calls = SpanModel.entities_of, []

    def interrupted(self, texts, tokens):
        calls.append(len(tokens))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return entities_of(self, texts, tokens)

    monkeypatch.setitem(SETTINGS["generation"], "batch_size", 2)
    monkeypatch.setattr(SpanModel, "entities_of", interrupted)
    assert predict(project, tmp_path / "cut") == 130  # as a shell has it for Ctrl-C
    (partial,) = (tmp_path / "cut/answers").glob(".*.partial")
    assert len(partial.read_text().splitlines()) == 2
    assert predict(project, tmp_path / "cut") == 0
    assert calls == [2, 2, 2, 2]
    assert not list((tmp_path / "cut/answers").glob(".*.partial"))
    assert rows_of(tmp_path / "cut") == rows


def test_a_folder_that_is_no_classifier_and_an_overlap_as_long_as_a_window_are_one_line(tiny_base, project):
    with pytest.raises(UserError, match="is not a token classifier; use the merged folder"):
        SpanModel(tiny_base, answer_settings(64, 16))
    model = SpanModel(project / "merged/manifest.json", answer_settings(17, 16))
    with pytest.raises(UserError, match=r"tokens\.window_overlap 16 leaves no room in windows of 16 tokens"):
        model.entities(texts_of([0]))
