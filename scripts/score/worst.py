"""The worst answers of a variant with their faults; for exact answers, all mismatches."""

import heapq
from collections.abc import Iterator

from scripts.score.scoring_input import ScoringInput

WORST = 25
SHOWN = ("chrf", "rouge_l", "exact_match", "perplexity", "repetition")
REPEATS = 0.3


def faults(data: ScoringInput, scores: dict, index: int) -> list[str]:
    """Return the obvious faults of an answer, in words."""
    row, text = data.answers[index], data.texts[index]
    said = []
    if not text:
        said.append("is empty")
    if row["stop"] != "end":
        said.append("was cut at the length limit")
    if (repeated := (scores["per_record"].get("repetition") or {index: None})[index]) and repeated >= REPEATS:
        said.append(f"repeats itself ({repeated:.0%} of its word triples)")
    said += [
        f"generic phrase: {found.group()}"
        for pattern in data.generic_phrases
        if (found := data.phrase(index, pattern)) and found.group()
    ]
    return said


def described(data: ScoringInput, scores: dict, shown: tuple[str, ...] = SHOWN) -> Iterator[dict]:
    """Yield every answer with its faults and the given scores."""
    keys = ("id", "label", "messages", "expected", "answer", "stop")
    known = {metric: scores["per_record"].get(metric) for metric in shown}
    for index, answer in enumerate(data.answers):
        yield {
            **{key: answer[key] for key in keys},
            "faults": faults(data, scores, index),
            "scores": {metric: values[index] for metric, values in known.items() if values},
        }


def worst_answers(data: ScoringInput, scores: dict) -> list[dict]:
    """Return the worst answers: by lowest chrF if one is expected, then by most faults and repetition."""

    def key(row: dict) -> tuple:
        chrf = row["scores"].get("chrf")
        return chrf is None, chrf or 0.0, -len(row["faults"]), -(row["scores"].get("repetition") or 0.0)

    return heapq.nsmallest(WORST, described(data, scores), key=key)


def mismatches(data: ScoringInput, scores: dict) -> list[dict]:
    """Return all answers that differ from the expected ones, highest character error rate first."""
    rows = []
    normalised = scores["per_record"].get("normalised_match")
    for index, row in enumerate(described(data, scores, ("character_error_rate", *SHOWN))):
        if data.expected[index] in (None, data.texts[index]):
            continue
        if normalised and normalised[index] == 1:
            row["faults"].append("differs in case, punctuation, spacing or forms of characters only")
        rows.append(row)
    return sorted(rows, key=lambda row: -(row["scores"].get("character_error_rate") or 0.0))
