"""Metrics of people's votes on a variant's answers."""

from scripts.score.intervals import interval
from scripts.score.metrics import METRICS, metric
from scripts.score.scoring_input import MetricResult, NotApplicableError, ScoringInput
from scripts.score.votes import IGNORED, MEASURED, REMEDY, readers_of, vote_rows


def of_votes(data: ScoringInput, key: str, what: str) -> MetricResult:
    """Return the statistics of a metric of votes; NotApplicableError with the remedy if none counts."""
    votes = data.votes
    if votes.missing:
        raise NotApplicableError(votes.missing)
    if not votes.own.get(key):
        ignored = ignored_text(votes.ignored.get(key, {}))
        raise NotApplicableError(f"no votes yet: {what}{ignored and f' ({ignored})'}; {REMEDY}")
    return MetricResult(vote_rows(votes.own[key], len(data.answers)))


def ignored_text(counts: dict[str, int]) -> str:
    """Return how many votes don't count and why, in words."""
    return ", ".join(f"{count} {IGNORED[reason]}" for reason, count in counts.items())


@metric("Passed by readers", direction="higher", statistic="votes", unit="%", quality=True, setting="votes")
def human_pass_rate(data: ScoringInput) -> MetricResult:
    """Share of people's ratings that let an answer pass.

    Passed ratings / ratings that say passed or failed. An own definition.
    """
    return of_votes(data, "human_pass_rate", "nobody rated these answers as passed or failed")


@metric("Stars of readers", direction="higher", statistic="votes", quality=True, setting="votes")
def human_stars(data: ScoringInput) -> MetricResult:
    """Mean of people's ratings from 1 to 5.

    Σ stars / ratings with stars: the mean opinion score of ITU-T P.800.
    """
    return of_votes(data, "human_stars", "nobody gave these answers 1 to 5 stars")


@metric("Won against the rival", direction="higher", statistic="votes", unit="%", quality=True, setting="votes")
def win_rate(data: ScoringInput) -> MetricResult:
    """Blind comparisons with `score.rival` that the answer won, and half of the ties / all of them.

    (Won + ties / 2) / all comparisons: the probability of superiority (Vargha and Delaney 2000).
    """
    if data.votes.name == data.votes.rival:
        raise NotApplicableError("it is the rival itself")
    if not data.votes.missing and not data.votes.has_rival:
        raise NotApplicableError(f"its rival {data.votes.rival} is not scored: name another one, `score.rival`")
    return of_votes(data, "win_rate", f"nobody compared these answers with those of {data.votes.rival}")


@metric("Taken for a person's", direction="higher", statistic="votes", unit="%", quality=True, setting="votes")
def human_test_rate(data: ScoringInput) -> MetricResult:
    """Share of people's votes in the human test that took an answer for one written by a person.

    Votes for a person / votes on the variant's answers. An own definition, after Turing 1950.
    """
    return of_votes(data, "human_test_rate", "nobody was asked who wrote these answers")


def votes_facts(data: ScoringInput, file: str, with_models: bool) -> dict | None:
    """Return what the pages say of a variant's votes, ready for JSON; None without any.

    `metrics` has for each metric the number of votes, the readers in the order of the statistic's columns, and as
    `expected` the value that the expected answers, which people wrote, get, with its interval (None without votes on
    them). `ignored` has for each metric how many votes don't count, by the keys of IGNORED, and `ignored_expected` the
    same of votes on the expected answers.
    """
    votes = data.votes
    if votes is None or votes.missing:
        return None
    ignored = {"ignored": votes.ignored, "ignored_expected": votes.ignored_expected}
    if not (votes.own or votes.expected or any(ignored.values())):
        return None
    found = {}
    for key in (key for key in MEASURED.values() if key in votes.own):
        entry, human, ballots = METRICS[key], None, votes.own[key]
        if key in votes.expected:
            rows = vote_rows(votes.expected[key], len(data.answers))
            human = interval(entry.statistic, rows, data.groups, entry.is_share).row()
        found[key] = {"votes": len(ballots), "readers": readers_of(ballots), "expected": human}
    return {"file": file, "rival": votes.rival, "models": with_models, **ignored, "metrics": found}
