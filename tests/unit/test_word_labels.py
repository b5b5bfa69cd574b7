"""All tokens of a word get one label, from the mean of their probabilities."""

import itertools

import pytest
import torch

from scripts.predict.span_model import labels_of_words, word_of_tokens

TAGS = ["O", "B-X", "B-Y", "I-X", "I-Y"]


def offsets_of(pieces: list[str]) -> list[tuple[int, int]]:
    """Return the places of pieces that make up a text, white space trimmed."""
    ends = itertools.accumulate(map(len, pieces))
    return [(end - len(piece.lstrip()), end) for end, piece in zip(ends, pieces, strict=True)]


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["É", "lo", "ïse", " R", "oy", "!"], [0, 0, 0, 1, 1, -6]),
        (["0", "6", "-", "39", " ", "9", "8", "th"], [0, 0, -3, 1, -5, 2, 2, 2]),
        (["jo", "e", "_1", "@", "ma", "il", ".", "fr"], [0, 0, 0, -4, 1, 1, -7, 2]),
        (["a.", "b", ".c", "d", "(", ")"], [0, 1, 2, 2, -5, -6]),  # a mark in a piece of a word
        (["a.b", "c", " d.e.f"], [0, 1, 2]),  # the first word that a token overlaps
        (["我", "叫", "Li", "n", "。", "ชื่อ"], [-1, -2, 0, 0, -5, -6]),  # scripts without spaces
        (["한", "국", " Ар", "м"], [0, 0, 1, 1]),
        ([], []),
    ],
)
def test_tokens_belong_to_the_first_word_that_they_overlap(pieces, words):
    assert word_of_tokens("".join(pieces), offsets_of(pieces)) == words


def test_pieces_of_one_character_are_in_its_word_and_a_space_put_first_is_not():
    assert word_of_tokens("aộ b", [(0, 0), (0, 1), (1, 2), (1, 2), (1, 2), (3, 4)]) == [-1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("words", "probabilities", "labels", "scores"),
    [
        # Two of three pieces say O; the mean says X. The score is the word's.
        ([0, 0, 0], [[0.6, 0.3, 0, 0.1, 0], [0.6, 0, 0, 0.4, 0], [0, 0, 0, 1, 0]], "B-X I-X I-X", [0.6] * 3),
        ([0, 0], [[0.1, 0, 0.9, 0, 0], [1, 0, 0, 0, 0]], "O O", [0.55] * 2),
        # B and I are added up before they are compared with O and other entities.
        ([0, 0], [[0.3, 0.2, 0.3, 0.2, 0], [0.3, 0.2, 0.3, 0.2, 0]], "I-X I-X", [0.4] * 2),
        # Only the first piece decides between B and I, and only the first can be B.
        ([0, 0], [[0, 0.2, 0, 0.8, 0], [0, 0.9, 0, 0.1, 0]], "I-X I-X", [1] * 2),
        ([0, 0], [[0, 0.2, 0.4, 0, 0.4], [0, 0, 1, 0, 0]], "I-Y I-Y", [0.9] * 2),
        # Words and single tokens beside each other stay apart.
        ([0, -2, 1], [[0, 1, 0, 0, 0], [0.4, 0.2, 0, 0.4, 0], [0.2, 0.8, 0, 0, 0]], "B-X I-X B-X", [1, 0.6, 0.8]),
        ([-1, -2], [[0, 0, 1, 0, 0], [0.9, 0, 0, 0, 0.1]], "B-Y O", [1, 0.9]),
        ([], [], "", []),
    ],
)
def test_a_word_has_the_label_that_is_most_probable_over_its_pieces(words, probabilities, labels, scores):
    found = labels_of_words(torch.tensor(probabilities).reshape(-1, 5), words, TAGS)
    assert found[0] == labels.split()
    assert found[1] == pytest.approx(scores)


def test_the_order_of_the_tags_is_free():
    tags = ["B-Y", "I-X", "I-Y", "O", "B-X"]
    assert labels_of_words(torch.tensor([[0, 0.5, 0, 0.4, 0.1], [1, 0, 0, 0, 0]]), [0, -2], tags)[0] == ["I-X", "B-Y"]
