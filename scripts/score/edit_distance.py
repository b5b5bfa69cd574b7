"""How many characters must be changed to turn one text into another."""


def edit_distance(first: str, second: str) -> int:
    """Return the Levenshtein distance of two texts in code points: insertions, deletions and substitutions count 1.

    One row of the usual table is held in the bits of whole numbers, so that a step handles a whole column of it.
    Source: Hyyrö 2003, "A bit-vector algorithm for computing Levenshtein and Damerau edit distances", after Myers 1999
    (JACM 46(3)).
    """
    if len(first) < len(second):
        first, second = second, first
    if not second:
        return len(first)
    places: dict[str, int] = {}
    for index, character in enumerate(first):
        places[character] = places.get(character, 0) | 1 << index
    everywhere = (1 << len(first)) - 1
    last = 1 << (len(first) - 1)
    distance, rises, falls = len(first), everywhere, 0
    for character in second:
        match = places.get(character, 0)
        diagonal = (((match & rises) + rises) ^ rises) | match | falls
        right_rises = falls | (everywhere & ~(diagonal | rises))
        right_falls = rises & diagonal
        if right_rises & last:
            distance += 1
        elif right_falls & last:
            distance -= 1
        right_rises = (right_rises << 1) | 1
        rises = everywhere & ((right_falls << 1) | ~(diagonal | right_rises))
        falls = everywhere & right_rises & diagonal
    return distance
