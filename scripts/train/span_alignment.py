"""Spans of characters as BIO labels of tokens, and back; long texts in windows. Nothing here knows a model.

Labels are IOB2 (Ramshaw and Marcus 1995, arXiv:cmp-lg/9505040): `B-X` on the first token of an entity, `I-X` on the
others, `O` elsewhere. A token's place is its offsets in the text without white space at its edges; a token of white
space alone belongs to an entity only between two tokens of that entity. A token that two spans share belongs to the one
that covers more of it, to the first one when they are equal.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from scripts.common.errors import UserError

OUTSIDE = "O"
SPACE = "▁"  # as SentencePiece writes it


@dataclass(frozen=True)
class TokenizedText:
    """A text's token ids without special tokens, and [start, end) of each in characters, white space trimmed."""

    ids: list[int]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class Window:
    """Tokens [start, end) of a text that the model reads at once; those from `owned` on are scored here."""

    start: int
    end: int
    owned: int


@dataclass(frozen=True)
class Entity:
    """A labelled stretch of text, [start, end) in characters, and its tokens [first, last)."""

    start: int
    end: int
    label: str
    first: int
    last: int


def encode_text(tokenizer, text: str) -> TokenizedText:
    """Return a text's tokens; what looks like a special token in it is plain text. The tokenizer has to be a fast one.

    All pieces of a character that the vocabulary lacks (byte fallback) have that character's place. The space that some
    tokenizers put before a text has none, though they give it the first character's.
    """
    if not tokenizer.is_fast:
        raise UserError("the model's tokenizer knows no offsets", remedy="use a model that has a tokenizer.json")
    encoded = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
    )
    pieces = zip(encoded.tokens(), encoded["offset_mapping"], strict=True)
    offsets = [
        (start, start) if piece == SPACE and start == 0 else trimmed(text, start, end) for piece, (start, end) in pieces
    ]
    return TokenizedText(encoded["input_ids"], offsets)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return [start, end) without white space at its edges; of white space alone, the empty place at its end."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def special_frame(tokenizer) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts before and after a text, such as one BOS and nothing."""
    bare, framed = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    before = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
    return framed[:before], framed[before + len(bare) :]


def labels_of_spans(offsets: Sequence[tuple[int, int]], spans: list[list]) -> list[str]:
    """Return the BIO label of each token; spans are [start, end, label] in characters and do not overlap."""
    ends = [end for _, end in offsets]
    owner: list[int | None] = [None] * len(offsets)
    covered = [0] * len(offsets)
    for number, (start, end, _) in enumerate(spans):
        for token in range(bisect_right(ends, start), len(offsets)):
            if offsets[token][0] >= end:
                break
            share = min(offsets[token][1], end) - max(offsets[token][0], start)
            if share > covered[token]:
                owner[token], covered[token] = number, share
    fill_blanks(offsets, owner)
    return [
        OUTSIDE if number is None else f"{'I' if number == before else 'B'}-{spans[number][2]}"
        for before, number in pairwise([None, *owner])
    ]


def fill_blanks(offsets: Sequence[tuple[int, int]], owner: list[int | None]) -> None:
    """Give tokens of white space alone to the span that has the tokens on both sides."""
    last = None
    for token, (start, end) in enumerate(offsets):
        if start == end:
            continue
        if last is not None and owner[last] == owner[token]:
            owner[last + 1 : token] = [owner[token]] * (token - last - 1)
        last = token


def entities_of_labels(offsets: Sequence[tuple[int, int]], labels: Sequence[str]) -> list[Entity]:
    """Return the entities that BIO labels name, in order and without overlap.

    `B-X` begins an entity, `I-X` continues an entity X and otherwise begins one (as conlleval and seqeval read it), `O`
    ends it. The label of a character's first piece is that of all its pieces. White space at an entity's edges is left
    out, and an entity of nothing else is none.
    """
    entities, label, first, last = [], None, 0, 0

    def close() -> None:
        if label is None:
            return
        places = [offsets[i] for i in range(first, last) if offsets[i][0] < offsets[i][1]]
        start = max(places[0][0], entities[-1].end if entities else 0) if places else 0
        if places and start < places[-1][1]:
            entities.append(Entity(start, places[-1][1], label, first, last))

    for token, given in enumerate(labels):
        place = offsets[token]
        if token and place == offsets[token - 1] and place[0] < place[1]:
            last += label is not None
            continue
        kind, _, name = given.partition("-")
        if kind == "I" and name == label:
            last = token + 1
            continue
        close()
        label, first, last = (name, token, token + 1) if name else (None, 0, 0)
    close()
    return entities


def altered_spans(offsets: Sequence[tuple[int, int]], spans: list[list]) -> list[dict]:
    """Return what the way spans -> tokens -> spans changes: {"span", "back", "kind"} of each changed span.

    The kinds: widened (`back` holds the span), trimmed (the span holds it), moved (neither), and lost (`back` is None).
    """
    entities = entities_of_labels(offsets, labels_of_spans(offsets, spans))
    came_back = [[entity.start, entity.end, entity.label] for entity in entities]
    spans = [list(span) for span in spans]
    left = [back for back in came_back if back not in spans]
    altered = []
    for span in (span for span in spans if span not in came_back):
        back = next((b for b in left if b[2] == span[2] and b[0] < span[1] and span[0] < b[1]), None)
        if back is None:
            kind = "lost"
        elif back[0] <= span[0] and span[1] <= back[1]:
            kind = "widened"
        else:
            kind = "trimmed" if span[0] <= back[0] and back[1] <= span[1] else "moved"
        altered.append({"span": span, "back": back, "kind": kind})
    return altered


def windows(tokens: int, capacity: int, overlap: int) -> list[Window]:
    """Return the windows of at most `capacity` tokens over a text, each beginning `overlap` tokens before the last end.

    Each token belongs to the first window that holds it: the one with the most context for a causal model. Raises
    UserError when the overlap leaves no room.
    """
    if overlap >= capacity:
        raise UserError(
            f"tokens.window_overlap {overlap} leaves no room in windows of {capacity} tokens",
            remedy="lower it, or raise tokens.max_length",
        )
    result = [Window(0, min(tokens, capacity), 0)]
    while (end := result[-1].end) < tokens:
        result.append(Window(end - overlap, min(end - overlap + capacity, tokens), end))
    return result


def bio_labels(names: set[str]) -> list[str]:
    """Return the BIO labels of entity names in the order of their numbers: `O` first, the others sorted."""
    return [OUTSIDE, *sorted(f"{kind}-{name}" for name in names for kind in "BI")]
