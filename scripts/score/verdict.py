"""The verdict on a run: promote, hold or roll back, and one sentence that says what to do."""

from scripts.score.gates import (
    FAILED,
    NOT_MEASURABLE,
    NOT_MEASURED,
    PASSED,
    UNDECIDED,
    aim,
    described,
    gate_interval,
    is_on_side,
    judge_gates,
)
from scripts.score.history import History
from scripts.score.intervals import FEW_UNITS
from scripts.score.metrics import METRICS, has_quality_gate
from scripts.score.shown import counted, in_a_sentence, whole
from scripts.score.stand_in import NOTE
from scripts.score.votes_shown import beside_gate

# The faces of a verdict: what it is, and for `hold` why.
PROMOTE, ROLLBACK, FAILING, NEEDS_DATA, NOT_JUDGED = "promote", "rollback", "failed", "needs data", "not judged"


def verdict(
    run: str,
    gates: dict[str, dict],
    shipped: str,
    scores: dict[str, dict],
    resamples: int,
    seed: int,
    stand_in: bool = False,
    diverged: str | None = None,
    chosen: dict | None = None,
    group_by: str | None = None,
    history: History | None = None,
) -> dict:
    """Return a run's verdict; `shipped` in a gate means the shipped variant.

    Never promoted: a run with a stand-in as its base model; one without a gate on a quality metric of what it ships;
    one whose answers are mostly empty or the same text; one that its sweep did not choose (`chosen`); one with a gate
    that was looked at more often than its `looks` allows (`history`). A training that diverged is rolled back.
    """
    resolved = {
        name: {**gate, **{side: shipped if gate[side] == "shipped" else gate[side] for side in ("variant", "baseline")}}
        for name, gate in gates.items()
    }
    found = {name: gate_interval(gate, scores, resamples, seed) for name, gate in resolved.items()}
    judged = [{**gate, "reason": gate["reason"] + beside_gate(gate, scores)} for gate in judge_gates(resolved, found)]
    used_up = history.used_up(judged) if history else ()
    warnings, useless = answer_faults(shipped, scores)
    obstacles = [
        *([NOTE] if stand_in else []),
        *([f"the sweep chose {chosen['run']} on the validation split"] if chosen and chosen["run"] != run else []),
        *useless,
        *([] if not gates or has_quality_gate(gates, shipped) else [f"no gate is on a quality metric of {shipped}"]),
        *(f"{name} was looked at more often than its {gates[name]['looks']} looks" for name in used_up),
    ]
    face, why = judge(judged)
    if diverged:
        face, why = ROLLBACK, diverged
    elif obstacles and face != ROLLBACK:
        why = "; ".join([*obstacles, *([why] if face not in (PROMOTE, NOT_JUDGED) else [])])
        face = NOT_JUDGED
    elif obstacles:
        why = "; ".join([*obstacles[: int(stand_in)], why])
    word = face if face in (PROMOTE, ROLLBACK) else "hold"
    groups = scores[shipped]["groups"] if shipped in scores else None
    return {
        "run": run,
        "verdict": word,
        "face": face,
        "advice": advice(face, why, [] if diverged else judged, shipped),
        "reason": why,
        "shipped": shipped,
        "stand_in": stand_in,
        "diverged": diverged,
        "chosen": chosen,
        "groups": {"by": group_by, "count": len(set(groups))} if group_by and groups else None,
        "warnings": warnings,
        "gates": judged,
    }


def judge(gates: list[dict]) -> tuple[str, str]:
    """Return the face of the verdict that follows from judged gates, and the reason in one line."""
    by_outcome = {outcome: [] for outcome in (PASSED, FAILED, UNDECIDED, NOT_MEASURABLE, NOT_MEASURED)}
    for gate in gates:
        by_outcome[gate["outcome"]].append(gate["name"])
    fatal = [gate["name"] for gate in gates if gate["outcome"] == FAILED and gate["on_failure"] == "rollback"]
    if not gates:
        return NOT_JUDGED, "no gate is defined for this run"
    if fatal:
        return ROLLBACK, f"clearly failed: {', '.join(fatal)}"
    said = [f"{outcome}: {', '.join(names)}" for outcome, names in by_outcome.items() if names and outcome != PASSED]
    if by_outcome[FAILED]:
        return FAILING, "; ".join(said)
    if said:
        return NEEDS_DATA, "; ".join(said)
    return PROMOTE, "every gate passed" if len(gates) > 1 else "its gate passed"


def advice(face: str, why: str, gates: list[dict], shipped: str) -> str:
    """Return one sentence that says what to do."""
    if face == PROMOTE:
        return f"Ship {shipped}: {why}."
    if face == NOT_JUDGED:
        return f"Don't ship this: {why}." + ("" if gates else " Say in `gates` what the model must reach.")
    outcome = {ROLLBACK: FAILED, FAILING: FAILED}.get(face, UNDECIDED)
    named = [gate for gate in gates if gate["outcome"] == outcome]
    if face == ROLLBACK:
        fatal = [gate for gate in named if gate["on_failure"] == "rollback"]
        return f"Don't ship this: {told(fatal[0])}{more(fatal)}." if fatal else f"Don't ship this: {why}."
    if named:
        return f"Don't ship yet: {told(named[0])}{more(named)}."
    missing = next(gate for gate in gates if gate["outcome"] in (NOT_MEASURABLE, NOT_MEASURED))
    return f"Don't ship yet: {in_a_sentence(missing['reason'])}."


def more(gates: list[dict]) -> str:
    """Return the names of the other gates with the same outcome."""
    return f" (also {', '.join(gate['name'] for gate in gates[1:])})" if len(gates) > 1 else ""


def told(gate: dict) -> str:
    """Return what a gate found and what it wants, for the sentence of advice."""
    against = f" against {gate['baseline']}" if gate["baseline"] else ""
    title = in_a_sentence(METRICS[gate["metric"]].title)
    line = f"{title}{against} is {described(gate, gate['value'])}, wanted {aim(gate)}"
    if gate["outcome"] == FAILED:
        return line
    if gate["groups"] is not None and gate["groups"] < FEW_UNITS:
        groups = counted(gate["groups"], "group")
        return f"{line}, and {groups} of test records can't tell; at least {FEW_UNITS} are needed"
    would = "would" if is_on_side(gate, gate["value"]) else "would show that it fails"
    more = f"; about {whole(gate['needed'])} {would}" if gate["needed"] else ""
    return f"{line}, and {counted(gate['n'], 'test record')} can't tell{more}"


def answer_faults(shipped: str, scores: dict[str, dict]) -> tuple[list[str], list[str]]:
    """Return warnings on empty or equal answers of the shipped variant, and those of them that most answers have.

    Few gates detect them. Equal answers are plausible if more than half as many expected answers, or questions, are
    equal; `commonest` is None where they always are.
    """
    if shipped not in scores:
        return [], []
    found, equal = scores[shipped], scores[shipped]["commonest"]
    warnings, useless = [], []
    if found["empty"]:
        warnings.append(f"{found['empty']} of {found['records']} answers of {shipped} are empty")
        useless += warnings if 2 * found["empty"] >= found["records"] else []
    if (
        equal is not None
        and 2 * equal["answers"] > found["records"]
        and equal["answers"] >= 2 * max(equal["expected"], equal["questions"])
    ):
        same = f"{equal['answers']} of {found['records']} answers of {shipped} are the same text"
        warnings.append(same)
        useless.append(same)
    return warnings, useless
