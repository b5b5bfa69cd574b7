"""A merged token classifier finds entities, in windows, in any company, and goes on after an interruption."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from scripts.common.entities import parse_entities
from scripts.common.errors import UserError
from scripts.common.files import read_json, read_jsonl
from scripts.common.threads import use_threads
from scripts.predict.predict_spans import main
from scripts.predict.span_model import SpanModel
from scripts.train.head_run import HeadRun
from scripts.train.merge_head import merge_head
from scripts.train.tokenize_spans import tokenize_dataset
from scripts.train.train_head import train_head
from tests.support.span_data import head_settings, make_span_dataset, span_record

SETTINGS = head_settings(
    tokens={"max_length": 64, "window_overlap": 16},
    head={"dropout": 0.0},
    training={"epochs": 60, "learning_rate": 0.02, "micro_batch": 4, "logging_steps": 100, "keep_best": False},
)


@pytest.fixture(scope="module")
def project(tiny_base, tmp_path_factory) -> Path:
    """A folder with a dataset and a classifier that has learnt its training split by heart."""
    use_threads(2)
    folder = tmp_path_factory.mktemp("project")
    dataset = make_span_dataset(folder / "dataset")
    tokenize_dataset(dataset, tiny_base, folder / "tokens", SETTINGS["tokens"])
    train_head(HeadRun(folder / "tokens", tiny_base, folder / "checkpoints", folder / "adapter", SETTINGS, 2, 1))
    merge_head(folder / "adapter" / "manifest.json", tiny_base, folder / "merged")
    return folder


@pytest.fixture(scope="module")
def model(project) -> SpanModel:
    return SpanModel(project / "merged" / "manifest.json", "fp32", 64, 16, 4)


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


def test_labels_are_those_of_plain_transformers(model, project):
    plain = AutoModelForTokenClassification.from_pretrained(project / "merged", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(project / "merged")
    (text,) = texts_of([26])
    inputs = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        scores, best = plain(**inputs).logits[0].softmax(-1).max(-1)
    ((tags, chances),) = model.classify([inputs["input_ids"][0].tolist()])
    assert tags == best.tolist()
    assert chances == pytest.approx(scores.tolist(), abs=1e-5)


def test_a_texts_entities_do_not_depend_on_the_others(model):
    texts = texts_of(range(30, 42))
    together = model.entities(texts)
    assert together == [model.entities([text])[0] for text in texts]
    assert together == model.entities(texts[::-1])[::-1]
    assert any(together)
    assert model.entities([]) == []
    assert model.entities([""]) == [[]]


def test_a_long_text_is_read_to_its_end_in_windows(model):
    texts = texts_of(range(24))
    long = "\n\n".join(texts)
    assert len(model.encode(long).ids) > 5 * model.max_length
    (found,) = model.entities([long])
    starts = [long.index(text) for text in texts]
    gold = {
        (start + first, start + last, name)
        for start, number in zip(starts, range(24), strict=True)
        for first, last, name in span_record(number).spans
    }
    named = {tuple(entity[:3]) for entity in found}
    assert max(end for _, end, _ in named) > 0.9 * len(long)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))
    assert len([start for start, *_ in gold & named if start > len(long) / 2]) > 4


def test_windows_that_hold_the_whole_text_change_nothing(model, project):
    text = "\n".join(texts_of(range(4)))
    wide = SpanModel(project / "merged" / "manifest.json", "fp32", 512, 64, 4)
    assert len(wide.encode(text).ids) > 64
    (whole,) = wide.entities([text])
    (windowed,) = model.entities([text])
    first_window = len("".join(text)[: wide.encode(text).offsets[62][1]])
    inside = [entity for entity in whole if entity[1] < first_window]
    assert inside
    assert [entity[:3] for entity in windowed][: len(inside)] == [entity[:3] for entity in inside]


def predict(project, folder) -> int:
    arguments = ["--test", project / "dataset" / "test.jsonl", "--answers", folder / "answers" / "merged.jsonl"]
    arguments += ["--likelihood", folder / "likelihood.jsonl", "--settings", json.dumps(SETTINGS), "--threads", "2"]
    return main([str(word) for word in [project / "merged" / "manifest.json", *arguments]])


def without_seconds(path: Path) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_jsonl(path)]


def test_answers_hold_gold_spans_entities_and_their_json(project, tmp_path):
    assert predict(project, tmp_path) == 0
    rows = list(read_jsonl(tmp_path / "answers" / "merged.jsonl"))
    records = list(read_jsonl(project / "dataset" / "test.jsonl"))
    assert [row["id"] for row in rows] == [record["id"] for record in records]
    assert (tmp_path / "likelihood.jsonl").read_bytes() == b""
    for row, record in zip(rows, records, strict=True):
        text = row["messages"][-1]["content"]
        assert row["spans"] == record["spans"]
        assert (row["prompt_set"], row["stop"], row["label"]) == ("test", "end", "fr")
        assert row["seconds"] > 0
        spans, missing = parse_entities(row["answer"], text)
        assert [text[a:b] for a, b, _ in spans] == [text[a:b] for a, b, *_ in row["entities"]]
        assert missing == 0


def test_an_interrupted_prediction_goes_on_and_ends_the_same(project, tmp_path, monkeypatch):
    assert predict(project, tmp_path / "whole") == 0
    entities_of, calls = SpanModel.entities_of, []

    def interrupted(self, tokens):
        calls.append(len(tokens))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return entities_of(self, tokens)

    monkeypatch.setitem(SETTINGS["generation"], "batch_size", 2)
    monkeypatch.setattr(SpanModel, "entities_of", interrupted)
    assert predict(project, tmp_path / "cut") == 130  # as a shell has it for Ctrl-C
    (partial,) = (tmp_path / "cut" / "answers").glob(".*.partial")
    assert len(partial.read_text().splitlines()) == 2
    assert predict(project, tmp_path / "cut") == 0
    assert calls == [2, 2, 2, 2]
    assert list((tmp_path / "cut" / "answers").glob("[!.]*")) == [tmp_path / "cut" / "answers" / "merged.jsonl"]
    whole, cut = (without_seconds(tmp_path / name / "answers" / "merged.jsonl") for name in ("whole", "cut"))
    assert whole == cut


def test_a_folder_that_is_no_classifier_is_one_line(tiny_base, project):
    with pytest.raises(UserError, match="is no token classifier; use the merged folder of a token classification run"):
        SpanModel(tiny_base, "fp32", 64, 16, 4)
    assert read_json(project / "merged" / "head_config.json")["labels"][0] == "O"


def test_an_overlap_as_long_as_a_window_is_one_line(project):
    model = SpanModel(project / "merged" / "manifest.json", "fp32", 17, 16, 4)
    with pytest.raises(UserError, match=r"tokens\.window_overlap 16 leaves no room in windows of 16 tokens"):
        model.entities(texts_of([0]))
