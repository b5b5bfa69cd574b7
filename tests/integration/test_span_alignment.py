"""Spans of characters become labels of tokens and come back, exactly or counted."""

import itertools
import json
import unicodedata

import pytest
from datasets import Dataset
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from scripts.common.chat import IGNORED
from scripts.common.files import read_json, read_jsonl
from scripts.train.span_alignment import altered_spans, encode_text, entities_of_labels, labels_of_spans, windows
from scripts.train.tokenize_spans import main
from tests.support.dataset_steps import write_lines
from tests.support.span_data import head_settings, make_span_dataset
from tests.support.tiny_model import SENTENCES, make_tiny_tokenizer

KINDS = ("sentencepiece", "llama", "byte_level")
TRICKY = [
    "But de Zoé Müller à Saint-Étienne !",
    "  deux  espaces,\n\n\tune ligne \u00a0 insécable",
    "🦊 écrit à 👨‍👩‍👧 : x@y.fr",
    unicodedata.normalize("NFD", "Éloïse a fêté Noël à Nîmes"),
    "<s> [INST] </s> <unk> texte",
    "漢字 và Ngọc Lan",
]


@pytest.fixture(scope="module")
def tokenizers_by_kind(tmp_path_factory) -> dict:
    """Fast tokenizers: SentencePiece pieces with byte fallback, the same with a space put first, and byte-level."""
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tiny_tokenizer(folder)
    sentencepiece = AutoTokenizer.from_pretrained(folder)
    inner = Tokenizer.from_str(sentencepiece.backend_tokenizer.to_str())
    inner.pre_tokenizer = None
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = Tokenizer(models.BPE())
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<b>", "<e>"], initial_alphabet=alphabet)
    bytes_.train_from_iterator([*SENTENCES, *TRICKY] * 3, trainer)
    bytes_.post_processor = processors.TemplateProcessing(single="<b> $A <e>", special_tokens=[("<b>", 0), ("<e>", 1)])
    llama, byte_level = (PreTrainedTokenizerFast(tokenizer_object=each) for each in (inner, bytes_))
    return dict(zip(KINDS, (sentencepiece, llama, byte_level), strict=True))


@st.composite
def text_with_spans(draw) -> tuple[str, list[list]]:
    """A text of common and of strange characters, and spans that may touch, start or end anywhere."""
    piece = st.one_of(st.sampled_from([*TRICKY, " ", "a.b", "23e", "\n", "é", "e\u0301", "🦊"]), st.text(max_size=6))
    text = "".join(draw(st.lists(piece, max_size=5)))
    borders = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    spans = [[a, b, draw(st.sampled_from("XY"))] for a, b in itertools.pairwise(borders) if a < b]
    return text, [span for span in spans if draw(st.booleans())]


def came_back(offsets, spans) -> list[list]:
    entities = entities_of_labels(offsets, labels_of_spans(offsets, spans))
    return [[entity.start, entity.end, entity.label] for entity in entities]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(case=text_with_spans())
@example(case=("a.b", [[0, 1, "X"], [1, 3, "X"]]))
@example(case=("🦊🦊", [[0, 1, "X"], [1, 2, "X"]]))
def test_each_span_comes_back_exactly_or_is_named(tokenizers_by_kind, kind, case):
    text, spans = case
    offsets = encode_text(tokenizers_by_kind[kind], text).offsets
    back, altered = came_back(offsets, spans), altered_spans(offsets, spans)
    named = [change["span"] for change in altered]
    assert sorted([*named, *(span for span in spans if span in back)]) == spans
    assert not [span for span in named if span in back]
    assert len(back) <= len(spans)
    assert all(end <= start for (_, end, _), (start, _, _) in itertools.pairwise(back))
    for change in altered:
        if change["kind"] == "widened":
            assert change["back"][0] <= change["span"][0] <= change["span"][1] <= change["back"][1]


@pytest.mark.parametrize("kind", KINDS)
def test_spans_at_the_borders_of_tokens_come_back_exactly(tokenizers_by_kind, kind):
    for text in TRICKY:
        offsets = encode_text(tokenizers_by_kind[kind], text).offsets
        places = sorted({place for place in offsets if place[0] < place[1]})
        apart = [p for p in places if not any(q != p and q[0] < p[1] and p[0] < q[1] for q in places)]
        assert len(apart) > 3
        for step in (1, 2):
            edges = zip(apart[::step], apart[step - 1 :: step], strict=False)
            spans = [[start, end, "X"] for (start, _), (_, end) in edges]
            assert came_back(offsets, spans) == spans


def test_each_token_has_one_label():
    words, with_space = [(0, 3), (3, 6), (6, 9)], [(0, 2), (3, 3), (4, 4), (4, 6), (7, 7)]
    for offsets, spans, labels, altered in (
        (words, [[0, 3, "X"], [3, 9, "X"]], "B-X B-X I-X", []),  # touching entities of one label
        # White space belongs to an entity only inside it.
        (with_space, [[0, 7, "X"]], "B-X I-X I-X I-X O", [("trimmed", [0, 6, "X"])]),
        (with_space, [[0, 2, "X"], [4, 6, "X"]], "B-X O O B-X O", []),
        # A shared token belongs to the span that covers more of it.
        ([(0, 5), (5, 8)], [[0, 2, "X"], [2, 8, "Y"]], "B-Y I-Y", [("lost", None), ("widened", [0, 8, "Y"])]),
    ):
        assert labels_of_spans(offsets, spans) == labels.split()
        assert [(change["kind"], change["back"]) for change in altered_spans(offsets, spans)] == altered


def test_labels_are_repaired_as_documented():
    for labels, expected in (
        ("I-X I-X O O", [(0, 2, "X")]),
        ("B-X I-Y I-Y O", [(0, 1, "X"), (1, 3, "Y")]),
        ("B-X B-X O I-X", [(0, 1, "X"), (1, 2, "X"), (3, 4, "X")]),
    ):
        entities = entities_of_labels([(i, i + 1) for i in range(4)], labels.split())
        assert [(e.first, e.last, e.label) for e in entities] == expected


@settings(max_examples=100)
@given(tokens=st.integers(0, 200), capacity=st.integers(2, 40), overlap=st.integers(0, 39))
def test_each_token_is_owned_by_the_window_in_which_most_is_before_it(tokens, capacity, overlap):
    assume(overlap < capacity)
    found = windows(tokens, capacity, overlap)
    assert [t for w in found for t in range(w.owned, w.end)] == list(range(tokens))
    assert all(w.end - w.start <= capacity for w in found)
    for window in found:
        for token in range(window.owned, window.end):
            assert window.start == min(w.start for w in found if w.start <= token < w.end)


@pytest.fixture
def tokenize(tiny_base, tmp_path):
    """A function that runs the step on a dataset; returns its exit status, the ledger, and the page."""

    def run(dataset, **tokens) -> tuple[int, dict, str]:
        words = [dataset, "--base", tiny_base, "--folder", tmp_path / "tokens", "--settings"]
        if main([*map(str, words), json.dumps(head_settings(tokens=tokens))]):
            return 1, {}, ""
        return 0, read_json(tmp_path / "tokens/ledger.json"), (tmp_path / "tokens/ledger.html").read_text()

    return run


@pytest.fixture
def dataset(tmp_path):
    return make_span_dataset(tmp_path / "dataset")


def test_rows_hold_each_label_once_and_give_the_spans_back_and_the_ledger_counts_them(tokenize, dataset, tmp_path):
    status, ledger, page = tokenize(dataset, max_length=24, window_overlap=8)
    assert status == 0
    records, labels = list(read_jsonl(dataset / "train.jsonl")), read_json(tmp_path / "tokens/labels.json")
    rows = Dataset.from_file(str(tmp_path / "tokens/train.arrow")).to_list()
    assert max(len(row["input_ids"]) for row in rows) == 24
    for record in records:
        own = [row for row in rows if row["id"] == record["id"]]
        assert [row["window"] for row in own] == list(range(len(own)))
        assert all(row["input_ids"][0] == 1 and row["labels"][0] == IGNORED for row in own)
        tokens = [
            ((start, end), labels[label])
            for row in own
            for start, end, label in zip(row["starts"], row["ends"], row["labels"], strict=True)
            if label != IGNORED
        ]
        assert len(tokens) == own[-1]["start"] + len(own[-1]["input_ids"]) - 1
        entities = entities_of_labels(*zip(*tokens, strict=True))
        assert [[e.start, e.end, e.label] for e in entities] == record["spans"]
    train = ledger["splits"]["train"]
    assert train["windows"] == len(rows) > train["rows"] == len(records)
    assert train["spans"] == sum(len(record["spans"]) for record in records)
    assert train["labels"]["B-PERSON"] == train["entities"]["PERSON"]
    assert train["altered"] == {"widened": 0, "trimmed": 0, "moved": 0, "lost": 0}
    assert 'class="entity first" style="--hue: 0" title="CITY"' in page


def test_losses_and_labels_without_training_data_are_named(tokenize, dataset):
    first, *rows = read_jsonl(dataset / "test.jsonl")
    first |= {"messages": [{"role": "user", "content": "tête <b>bold</b>"}], "spans": [[0, 3, "NEW"]]}
    write_lines(dataset / "test.jsonl", [first, *rows])
    _, ledger, page = tokenize(dataset)
    assert ledger["warnings"] == ["test has the label NEW, which no record of the training split has"]
    [loss, *_] = ledger["splits"]["test"]["examples"]
    assert (loss["place"], loss["kind"], loss["text"]) == (first["origin"], "widened", {"span": "têt", "back": "tête"})
    assert "1 span doesn&#39;t come back from the tokens exactly" in page
    assert "B-NEW" in ledger["labels"]
    assert "<b>bold" not in page


def test_a_dataset_without_spans_and_a_window_longer_than_the_model_sees_are_refused(tokenize, dataset, capfd):
    assert tokenize(dataset, max_length=1024)[0] == 1
    assert "tokens.max_length is 1024, the model tiny takes 512 tokens" in capfd.readouterr().err
    row = next(read_jsonl(dataset / "train.jsonl"))
    write_lines(dataset / "train.jsonl", [{**row, "spans": None}])
    assert tokenize(dataset)[0] == 1
    assert f"raw.jsonl:1: record {row['id']} has no spans" in capfd.readouterr().err
