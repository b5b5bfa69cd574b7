"""BPE dropout: words fall into ever other pieces, so that a small model knows pieces as well as whole words.

Provilkov, Emelianenko, Voita 2020 (arXiv:1910.13267). SentencePiece's own sampling can't be seeded, and the model has
to come out the same each time; so the merges are made here, with the scores of the SentencePiece model.
"""

import itertools
import random
import re

SPACE = "\u2581"  # how SentencePiece writes a space


def scores_of_pieces(processor) -> dict[str, float]:
    """Return the score of each piece that merges can make; a higher one is merged first."""
    return {
        processor.id_to_piece(i): processor.get_score(i)
        for i in range(processor.get_piece_size())
        if not (processor.is_control(i) or processor.is_byte(i) or processor.is_unknown(i))
    }


def dropped_ids(processor, scores: dict[str, float], text: str, dropout: float, generator: random.Random) -> list[int]:
    """Return token ids of a text; every possible merge is left out, for good, with the probability `dropout`."""
    ids: list[int] = []
    for word in re.findall(f"{SPACE}+[^{SPACE}]*|[^{SPACE}]+", text.replace(" ", SPACE)):
        for piece in dropped_pieces(word, scores, dropout, generator):
            known = piece in scores
            ids += [processor.piece_to_id(piece)] if known else bytes_of(processor, piece)
    return ids


def dropped_pieces(word: str, scores: dict[str, float], dropout: float, generator: random.Random) -> list[str]:
    """Return the pieces of a word: the best possible merge again and again, those aside that are left out."""
    pieces = list(word)
    left_out: dict[tuple[int, str, str], bool] = {}
    while True:
        best, place, start = None, -1, 0
        for i, (left, right) in enumerate(itertools.pairwise(pieces)):
            score = scores.get(left + right)
            if score is not None and (best is None or score > best):
                merge = (start, left, right)
                if merge not in left_out:
                    left_out[merge] = generator.random() < dropout
                if not left_out[merge]:
                    best, place = score, i
            start += len(left)
        if best is None:
            return pieces
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]


def bytes_of(processor, character: str) -> list[int]:
    """Return the ids of the bytes that stand for a character that is no piece."""
    return [processor.piece_to_id(f"<0x{byte:02X}>") for byte in character.encode("utf-8")]
