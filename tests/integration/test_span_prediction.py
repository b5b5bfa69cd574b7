"""A merged token classifier finds entities, in windows, in any company, and goes on after an interruption."""

import itertools
import json
import time
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


def test_probabilities_are_those_of_plain_transformers(model, project):
    plain = AutoModelForTokenClassification.from_pretrained(project / "merged", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(project / "merged")
    (text,) = texts_of([26])
    inputs = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        expected = plain(**inputs).logits[0].softmax(-1)
    (probabilities,) = model.classify([inputs["input_ids"][0].tolist()])
    assert torch.allclose(probabilities, expected, atol=1e-5)


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
    starts = [(long.index(text), span_record(number).spans) for number, text in enumerate(texts)]
    gold = {(start + first, start + last, name) for start, spans in starts for first, last, name in spans}
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))
    assert len([start for start, *_ in gold & {(*entity[:3],) for entity in found} if start > len(long) / 2]) > 4


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
    assert predict(project, tmp_path / "cut") == 0
    assert calls[:4] == [2, 2, 2, 2]  # the second batch again, and the third
    assert rows_of(tmp_path / "cut") == rows


def test_the_first_answers_have_the_seconds_of_calls_with_their_text_alone_and_the_entities_of_the_batch(
    project, tmp_path, monkeypatch
):
    texts, entities = [], SpanModel.entities
    monkeypatch.setattr(SpanModel, "entities", lambda model, asked: texts.append(asked) or entities(model, asked))
    monkeypatch.setattr("scripts.predict.predict_spans.TIMED", 2)
    started = time.monotonic()
    assert predict(project, tmp_path) == 0
    taken = time.monotonic() - started
    rows = list(read_jsonl(tmp_path / "answers/merged.jsonl"))
    assert texts == [[row["text"]] for row in rows[:2]]
    assert ["seconds" in row for row in rows] == [True, True, *[False] * (len(rows) - 2)]
    assert all(row["seconds"] > 0 for row in rows[:2])
    assert sum(row["seconds"] for row in rows[:2]) < taken
    monkeypatch.setitem(SETTINGS["generation"], "batch_size", 1)
    assert predict(project, tmp_path / "alone") == 0
    assert all("seconds" in row for row in read_jsonl(tmp_path / "alone/answers/merged.jsonl"))
    assert len(texts) == 2  # they were alone already


def test_a_folder_that_is_no_classifier_and_an_overlap_as_long_as_a_window_are_one_line(tiny_base, project):
    with pytest.raises(UserError, match="is not a token classifier; use the merged folder"):
        SpanModel(tiny_base, answer_settings(64, 16))
    model = SpanModel(project / "merged/manifest.json", answer_settings(17, 16))
    with pytest.raises(UserError, match=r"tokens\.window_overlap 16 leaves no room in windows of 16 tokens"):
        model.entities(texts_of([0]))
