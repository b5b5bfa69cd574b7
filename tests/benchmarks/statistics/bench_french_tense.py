"""Recall and precision of each tense of `data/football/french_metrics.py` on labelled sentences:

python -m tests.benchmarks.statistics.bench_french_tense

The rules are developed on the half `development`; the half `held_out` measures them. The docstrings of the metrics,
data/football/README.md and docs/reference/metrics.md quote the figures.
"""

import regex

from data.football.french_metrics import finite_verbs
from scripts.score.tokenize_text import words
from tests.support.data import load

TENSES = {"p": "present", "c": "passe_compose", "o": "other"}


def labelled(sentence: str) -> tuple[str, dict[int, str]]:
    """Return a sentence without its labels, and the tense of each labelled word by its place among the words."""
    verbs = {place: TENSES[word[-1]] for place, word in enumerate(words(sentence, "fr")) if word[-2:-1] == "_"}
    return regex.sub("_[pco]\\b", "", sentence), verbs


def measured(half: str) -> dict[str, tuple[float, float, int]]:
    """Return (recall, precision, labelled verbs) of each tense in a half of the sentences.

    A verb is found if the word that has the label is found, in the tense of its label.
    """
    sentences = [labelled(sentence) for sentence in load("french_commentary.yaml")[half]]
    table = {}
    for tense in TENSES.values():
        right = found = expected = 0
        for sentence, verbs in sentences:
            ours = {place for place, other in finite_verbs(sentence).items() if other == tense}
            theirs = {place for place, other in verbs.items() if other == tense}
            right, found, expected = right + len(ours & theirs), found + len(ours), expected + len(theirs)
        table[tense] = (right / expected, right / found, expected)
    return table


def main() -> None:
    """Print a table for each half."""
    for half in ("development", "held_out"):
        print(f"\n{half:<16} {'recall':>8} {'precision':>10} {'verbs':>6}")
        for tense, (recall, precision, verbs) in measured(half).items():
            print(f"{tense:<16} {recall:8.2f} {precision:10.2f} {verbs:6}")


if __name__ == "__main__":
    main()
