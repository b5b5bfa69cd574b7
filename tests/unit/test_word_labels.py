"""All tokens of a word get one label, from the mean of their probabilities."""

import itertools

import pytest
import torch

from scripts.predict.span_model import labels_of_words, word_of_tokens
from tests.support.data import load

TABLE = load("word_labels.yaml")
TAGS = ["O", "B-X", "B-Y", "I-X", "I-Y"]


def offsets_of(pieces: list[str]) -> list[tuple[int, int]]:
    """Return the places of pieces that make up a text, white space trimmed."""
    ends = itertools.accumulate(map(len, pieces))
    return [(end - len(piece.lstrip()), end) for end, piece in zip(ends, pieces, strict=True)]


@pytest.mark.parametrize(("pieces", "words"), TABLE["pieces"])
def test_tokens_belong_to_the_first_word_that_they_overlap(pieces, words):
    assert word_of_tokens("".join(pieces), offsets_of(pieces)) == words


def test_pieces_of_one_character_are_in_its_word_and_a_space_put_first_is_not():
    assert word_of_tokens("aộ b", [(0, 0), (0, 1), (1, 2), (1, 2), (1, 2), (3, 4)]) == [-1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(("words", "probabilities", "labels", "scores"), TABLE["labels"])
def test_a_word_has_the_label_that_is_most_probable_over_its_pieces(words, probabilities, labels, scores):
    found = labels_of_words(torch.tensor(probabilities).reshape(-1, 5), words, TAGS)
    assert found[0] == labels.split()
    assert found[1] == pytest.approx(scores)


def test_the_order_of_the_tags_is_free():
    tags = ["B-Y", "I-X", "I-Y", "O", "B-X"]
    assert labels_of_words(torch.tensor([[0, 0.5, 0, 0.4, 0.1], [1, 0, 0, 0, 0]]), [0, -2], tags)[0] == ["I-X", "B-Y"]
