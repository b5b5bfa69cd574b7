"""The plan of a study: which records and texts are judged, by whom and in which order, and how many it needs."""

import math
import random
import secrets
from collections.abc import Callable

from scripts.common.errors import UserError
from scripts.common.judged import judged_hash
from scripts.score.counts import records_for
from scripts.score.interval_kinds import LEVEL
from scripts.score.scoring_input import clean
from scripts.score.votes import EXPECTED

# What is shown of each kind, and the threshold and the expected rate if none are given.
KINDS = {
    "rating": ("pass rate", 0.9, 0.95),
    "pair": ("win rate", 0.5, 0.6),
    "human_test": ("share of texts that are taken for a person's", 0.9, 0.95),
}
REPEATED = 0.1  # of the tasks are shown a second time
LONGEST_COMMENT = 2000

# Gives the rows of an answers file by run and variant; raises UserError if there is none.
Answers = Callable[[str, str], list[dict]]


def is_mixed(kind: str, right: str | None) -> bool:
    """Say whether half of a study's texts are people's."""
    return kind == "human_test" or (kind == "rating" and right == EXPECTED)


def needed(kind: str, right: str | None = None, threshold: float | None = None, expected: float | None = None) -> dict:
    """Return how many `judgements`, each of another record, show a rate beyond a threshold, and what is `wanted`.

    By the exact binomial test, two-sided at 95 %, with 80 % power if the rate is as `expected`. Raises UserError for
    rates that no number of judgements tells apart.
    """
    if kind not in KINDS:
        raise UserError(f"the kind '{kind}' is unknown", remedy=f"give {', '.join(KINDS)}")
    title, *defaults = KINDS[kind]
    threshold = defaults[0] if threshold is None else threshold
    expected = defaults[1] if expected is None else expected
    remedy = "give a threshold between 0 and 1, and an expected rate further from it"
    if not (0 < threshold < 1 and 0 <= expected <= 1) or threshold == expected:
        raise UserError(f"no number of judgements tells {expected:g} from {threshold:g}", remedy=remedy)
    count = records_for(threshold, expected, LEVEL)
    if count is None:
        raise UserError("more than 10 million judgements are needed", remedy=remedy)
    direction = "above" if expected > threshold else "below"
    wanted = f"a {title} {direction} {threshold:g} if it is {expected:g} (power 80 %, two-sided 95 %)"
    return {
        "judgements": count * (2 if is_mixed(kind, right) else 1),
        "wanted": wanted + ("; half of the texts are people's" if is_mixed(kind, right) else ""),
    }


def plan_study(
    answers: Answers,
    kind: str,
    left: str,
    right: str | None = None,
    *,
    records: int | None = None,
    readers: int = 1,
    overlap: float = 0.2,
    threshold: float | None = None,
    expected: float | None = None,
    seed: int | None = None,
) -> tuple[dict, list[dict]]:
    """Return the plan of a study and its items, in a random order.

    The answers of `left` (run/variant) are judged, for a pair against those of `right`; `right` of a rating may be
    "expected", which mixes people's texts in. `records` is by default the number that is needed. Raises UserError.
    """
    wanted = needed(kind, right, threshold, expected)
    if readers < 1 or not 0 <= overlap <= 1 or (records is not None and records < 1):
        raise UserError("readers and records are at least 1, and the overlap is from 0 to 1")
    if kind == "pair" and (not right or right == left):
        raise UserError("a pair needs two sides", remedy="name another run and variant as the right side")
    plan = {"kind": kind, "left": left, "right": right, "sides": [left], "title": f"{left}: ratings", "identical": 0}
    rows, rivals = sides_of(answers, plan)
    seed = secrets.randbits(53) if seed is None else seed
    size, generator = records or wanted["judgements"], random.Random(f"records {seed}")
    order = usable(plan, rows, rivals)
    generator.shuffle(order)
    if kind == "pair":
        plan |= {"sides": [left, right], "title": f"{left} against {right}"}
        plan["identical"] = len(rows.keys() & rivals.keys()) - len(order)
        items = [item_of(plan, rows[record], rivals[record]) for record in order[:size]]
    elif is_mixed(kind, right):
        title = "person or model?" if kind == "human_test" else "ratings, human texts mixed in"
        plan |= {"sides": [left, EXPECTED], "title": f"{left}: {title}"}
        items = [item_of(plan, rows[record], by_person=place % 2 == 1) for place, record in enumerate(order[:size])]
        generator.shuffle(items)
    else:
        items = [item_of(plan, rows[record]) for record in order[:size]]
    if not items:
        same = f" ({plan['identical']} answers are the same)" if plan["identical"] else ""
        raise UserError(f"{' and '.join(plan['sides'])} have no texts to judge{same}", remedy="choose other sides")
    plan |= {"records": len(items), "planned_readers": readers, "overlap": overlap, "seed": seed, "needed": wanted}
    return {**plan, "tasks_per_reader": len(plan_tasks(plan, 0))}, items


def available(answers: Answers, kind: str, left: str, right: str | None = None) -> int:
    """Return how many records a study of these sides can have; a pair needs another side."""
    plan = {"kind": kind, "left": left, "right": right or left}
    return len(usable(plan, *sides_of(answers, plan)))


def usable(plan: dict, rows: dict[str, dict], rivals: dict[str, dict]) -> list[str]:
    """Return the ids of records whose texts can be judged: of a pair they differ, and mixed studies need people's."""
    if plan["kind"] == "pair":
        shared = [record for record in rows if record in rivals]
        return [each for each in shared if clean(rows[each]["answer"]) != clean(rivals[each]["answer"])]
    needs_expected = is_mixed(plan["kind"], plan["right"])
    return [record for record, row in rows.items() if row.get("expected") or not needs_expected]


def sides_of(answers: Answers, plan: dict) -> list[dict[str, dict]]:
    """Return the rows of the answers of a plan's left side by record id, and of a pair those of its right side."""
    sides = [plan["left"], plan["right"]] if plan["kind"] == "pair" else [plan["left"]]
    found = [{row["id"]: row for row in answers(*side.rpartition("/")[::2])} for side in sides]
    return found if len(found) == 2 else [*found, {}]


def item_of(plan: dict, row: dict, rival: dict | None = None, by_person: bool = False) -> dict:
    """Return what is judged: `messages` (the prompt), `texts` (of a pair two), and what its votes say of them."""
    run, variant = plan["left"].rpartition("/")[::2]
    answer = row["expected"] if by_person else row["answer"]
    item = {"record": row["id"], "run": run, "variant": EXPECTED if by_person else variant, "by_person": by_person}
    item |= {"group": row.get("group"), "hash": judged_hash(row["messages"], answer)}
    item |= {"messages": row["messages"], "texts": [clean(answer)]}
    if rival is not None:
        item |= {"against": plan["right"], "against_hash": judged_hash(rival["messages"], rival["answer"])}
        item["texts"].append(clean(rival["answer"]))
    return item


def plan_tasks(plan: dict, slot: int) -> list[tuple[int, bool, bool]]:
    """Return the tasks of the reader with this number (from 0) in their order: (place of the item, swapped, repeat).

    All readers judge the first items (a share of `overlap`); the others are dealt out to the planned readers. The order
    is shuffled. A tenth are shown again: items of the first half, half a list later, with the other sides.
    """
    shared = math.ceil(round(plan["overlap"] * plan["records"], 6))
    own = range(shared + slot, plan["records"], plan["planned_readers"]) if slot < plan["planned_readers"] else ()
    generator = random.Random(f"tasks {plan['seed']} {slot}")
    items = [*range(shared), *own]
    generator.shuffle(items)
    half = len(items) // 2
    tasks = [(float(place), item, generator.random() < 0.5, False) for place, item in enumerate(items)]
    for place, item, is_swapped, _ in generator.sample(tasks[:half], min(half, math.ceil(REPEATED * len(items)))):
        tasks.append((generator.uniform(place + half, len(items)), item, not is_swapped, True))
    return [(item, is_swapped, is_repeat) for _, item, is_swapped, is_repeat in sorted(tasks)]


def changed_items(plan: dict, items: list[dict], answers: Answers) -> int:
    """Return how many items have a prompt or answer that is no longer what was judged, or that is gone."""
    try:
        rows, rivals = sides_of(answers, plan)
    except UserError:
        return len(items)
    return sum(is_changed(plan, item, rows.get(item["record"]), rivals.get(item["record"])) for item in items)


def is_changed(plan: dict, item: dict, row: dict | None, rival: dict | None) -> bool:
    """Say whether the answers that an item was made of have changed or are gone."""
    if row is None or (plan["kind"] == "pair" and rival is None) or (item["by_person"] and not row.get("expected")):
        return True
    current = item_of(plan, row, rival, item["by_person"])
    return any(current.get(name) != item.get(name) for name in ("hash", "against_hash"))


def vote_value(kind: str, is_swapped: bool, said: dict) -> dict:
    """Return what a vote on a task of this kind says, in the columns of votes.jsonl. Raises UserError if it is bad.

    `said` has of a rating `passed`, `stars` and `comment`, of a pair `choice`, of a human test `said_person`.
    """
    if kind == "pair":
        choice = said.get("choice")
        if choice not in ("first", "second", "tie"):
            raise UserError("a vote on a pair needs the choice 'first', 'second' or 'tie'")
        return {"won": 0.5 if choice == "tie" else float((choice == "first") != is_swapped)}
    if kind == "human_test":
        if not isinstance(said.get("said_person"), bool):
            raise UserError("a vote of the human test needs said_person: true or false")
        return {"said_person": said["said_person"]}
    passed, stars, comment = said.get("passed"), said.get("stars"), said.get("comment") or ""
    if not isinstance(passed, bool | None) or not (stars is None or (type(stars) is int and 1 <= stars <= 5)):
        raise UserError("a rating has passed (true or false) and stars (1 to 5)")
    if passed is None and stars is None:
        raise UserError("a rating needs passed or stars")
    if not isinstance(comment, str) or len(comment) > LONGEST_COMMENT:
        raise UserError(f"a comment is a text of at most {LONGEST_COMMENT} characters")
    return {"passed": passed, "stars": stars, "comment": comment.strip()}
