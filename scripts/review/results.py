"""The results of a study: rates with intervals, agreement of readers, and what a user of the results must know."""

from collections import Counter
from dataclasses import dataclass

from scripts.review.agreement import alpha, same_share
from scripts.review.judgements import MODEL, Judgements
from scripts.review.studies import Answers, changed_items
from scripts.score.intervals import interval
from scripts.score.votes import EXPECTED, vote_rows

POOR_AGREEMENT = 0.8  # of a reader with themselves
FEW_REPEATS = 5  # with fewer, nothing is said about it


@dataclass(frozen=True)
class Question:
    """What a vote answers: the metric of its rate, its title, its column in a vote, and its level of measurement."""

    name: str
    title: str
    column: str
    level: str = "nominal"


QUESTIONS = {
    "rating": (
        Question("human_pass_rate", "Pass rate", "passed"),
        Question("human_stars", "Stars (1 to 5)", "stars", "ordinal"),
    ),
    "pair": (Question("win_rate", "Win rate", "won"),),
    "human_test": (Question("human_test_rate", "Taken for a person's", "said_person"),),
}


def results(store: Judgements, study: str, answers: Answers) -> dict:
    """Return the results of a study, as GET /api/study gives them. Votes of judge models count in no rate."""
    plan, votes = store.study(study), store.votes(study)
    people = of_people(votes)
    rates = [row for question in QUESTIONS[plan["kind"]] for row in rates_of(question, plan, people)]
    readers = [row for reader in plan["readers"] for row in reader_rows(reader, QUESTIONS[plan["kind"]], votes)]
    changed = changed_items(plan, store.items(study), answers)
    return {
        **{name: plan[name] for name in ("id", "kind", "title", "sides", "needed")},
        "votes": len(people),
        "rates": rates,
        "by_reader": readers,
        "alpha": rates[0]["alpha"],
        "alpha_reason": rates[0]["alpha_reason"],
        "warnings": warnings(plan, people, readers, changed),
    }


def rates_of(question: Question, plan: dict, votes: list[dict]) -> list[dict]:
    """Return the rate of a study's variant, and of people's texts where they are mixed in, with alpha of both."""
    votes = [vote for vote in votes if vote[question.column] is not None]
    values = [(vote["reader"], vote["item"], float(vote[question.column])) for vote in votes]
    agreement, reason = alpha(values, question.level)
    rows = []
    for is_expected in (False, True) if EXPECTED in plan["sides"] else (False,):
        rows.append(
            {
                "name": question.name + ("_of_human_texts" if is_expected else ""),
                "title": f"{question.title} of {'human texts' if is_expected else plan['left']}",
                **rate_of(question, [vote for vote in votes if (vote["variant"] == EXPECTED) == is_expected]),
                "alpha": agreement,
                "alpha_reason": reason,
            }
        )
    return rows


def rate_of(question: Question, votes: list[dict]) -> dict:
    """Return the mean answer with its interval (None without votes), as the score stage does; `n` counts records."""
    groups = {vote["record"]: vote["group"] for vote in votes}
    places = {record: place for place, record in enumerate(groups)}
    ballots = [(places[vote["record"]], vote["reader"], float(vote[question.column])) for vote in votes]
    rows = vote_rows(ballots, len(places))
    found = interval("votes", rows, list(groups.values()), bounded=question.level == "nominal")
    row = found.row() if found else {"value": None, "low": None, "high": None, "n": 0}
    return {**row, "votes": len(votes), "readers": len({vote["reader"] for vote in votes})}


def reader_rows(reader: dict, questions: tuple[Question, ...], votes: list[dict]) -> list[dict]:
    """Return a row for each question that a reader answered; for a reader without votes one row."""
    rows = [reader_row(reader, question, votes) for question in questions]
    return [row for row in rows if row["votes"]] or rows[:1]


def reader_row(reader: dict, question: Question, votes: list[dict]) -> dict:
    """Return a reader's votes on a question, own rate, agreement with themselves, and for a judge model with people."""
    votes = [vote for vote in votes if vote[question.column] is not None]
    own = [vote for vote in votes if vote["reader"] == reader["name"]]
    first = {vote["item"]: float(vote[question.column]) for vote in own if not vote["repeat"]}
    again = {vote["item"]: float(vote[question.column]) for vote in own if vote["repeat"]}
    rated = [float(vote[question.column]) for vote in own if not vote["repeat"] and vote["variant"] != EXPECTED]
    is_model = reader["name"].startswith(MODEL)
    return {
        "reader": reader["name"],
        "name": question.name,
        "title": question.title,
        "votes": len(first),
        "of": reader["of"],
        "rate": sum(rated) / len(rated) if rated else None,
        "self_agreement": same_share(first, again),
        "is_model": is_model,
        "agreement": with_people(first, majorities(of_people(votes), question.column)) if is_model else None,
    }


def of_people(votes: list[dict]) -> list[dict]:
    """Return the votes of people, without those on texts that were shown again."""
    return [vote for vote in votes if not vote["is_model"] and not vote["repeat"]]


def with_people(model: dict[int, float], people: dict[int, float]) -> dict:
    """Return on how many items a judge model answers as most people do, and alpha of the two."""
    values = [(name, item, said[item]) for name, said in (("people", people), ("model", model)) for item in said]
    return {**same_share(people, model), "alpha": alpha(values)[0]}


def majorities(votes: list[dict], column: str) -> dict[int, float]:
    """Return what more than half of the votes on an item say in a column; items without a majority are left out."""
    by_item: dict[int, Counter] = {}
    for vote in votes:
        by_item.setdefault(vote["item"], Counter())[float(vote[column])] += 1
    most = {item: (counts.most_common(1)[0], counts.total()) for item, counts in by_item.items()}
    return {item: answer for item, ((answer, count), total) in most.items() if count > total / 2}


def warnings(plan: dict, votes: list[dict], readers: list[dict], changed: int) -> list[str]:
    """Return what a user of the results must know."""
    found, needed = [], plan["needed"]
    judged = len({vote["item"] for vote in votes})
    if judged < needed["judgements"]:
        found.append(f"{judged} of {needed['judgements']} texts are judged that are needed to show {needed['wanted']}")
    people = [reader for reader in readers if not reader["is_model"] and reader["votes"]]
    if len({reader["reader"] for reader in people}) == 1:
        found.append("only one reader has judged, so whether others would agree is unknown")
    for reader in people:
        agreement = reader["self_agreement"]
        if agreement["of"] >= FEW_REPEATS and agreement["same"] < POOR_AGREEMENT * agreement["of"]:
            again = f"{agreement['same']} of {agreement['of']} texts the same way when they were shown again"
            found.append(f"{reader['reader']} judged only {again} ({reader['title']})")
    if changed:
        said = "have changed or are gone since the study began; votes on them count here, but not in the scores"
        found.append(f"{changed} of {plan['records']} answers {said}")
    if plan["identical"]:
        found.append(f"{plan['identical']} records were left out because both answers are the same")
    return found
