"""Gates: requirements for a trained model, evaluated with intervals, and the run's verdict."""

import math

from scripts.score.bootstrap import Estimate, difference
from scripts.score.metrics import METRICS, SHARES
from scripts.score.shown import number, shown
from scripts.score.stand_in import NOTE


def paired_rows(scores: dict, baseline: dict, metric: str) -> tuple[list, list]:
    """Return both sides' statistics of a metric for their common records, in the same order."""
    ours, theirs = scores["statistics"].get(metric), baseline["statistics"].get(metric)
    if ours is None or theirs is None:
        return [], []
    if scores["ids"] == baseline["ids"]:
        return ours, theirs
    positions = {identity: index for index, identity in reversed(list(enumerate(baseline["ids"])))}
    shared = [(index, positions[identity]) for index, identity in enumerate(scores["ids"]) if identity in positions]
    return [ours[index] for index, _ in shared], [theirs[index] for _, index in shared]


def metric_difference(
    scores: dict, baseline: dict, metric: str, resamples: int, seed: int, relative: bool = False
) -> Estimate | None:
    """Return the paired difference (scores minus baseline) of a metric, from two score files."""
    ours, theirs = paired_rows(scores, baseline, metric)
    found = difference(METRICS[metric].statistic, ours, theirs, resamples, seed, relative) if ours else None
    return found.within(-1, 1) if found and METRICS[metric].is_share and not relative else found


def gate_estimate(gate: dict, scores: dict[str, dict], resamples: int, seed: int) -> Estimate | str:
    """Return the estimate for a gate, or the reason why there is none."""
    metric, variant, baseline = gate["metric"], gate["variant"], gate["baseline"]
    for side in (variant, baseline):
        if side is not None and side not in scores:
            return f"this run has no variant '{side}'"
        if side is not None and scores[side]["metrics"].get(metric) is None:
            return f"{side} has no value: {scores[side]['reasons'].get(metric, 'it was not scored')}"
    if baseline is None:
        return Estimate(**scores[variant]["metrics"][metric])
    if variant == baseline:
        return Estimate(0.0, 0.0, 0.0, scores[variant]["metrics"][metric]["n"])
    found = metric_difference(scores[variant], scores[baseline], metric, resamples, seed, gate["relative"])
    return found or "the difference is not defined (no common records, or a baseline of 0)"


def passed(gate: dict, found: Estimate) -> bool | None:
    """Return True if the whole interval meets the bound, False if none of it does, None if part of it does."""
    if found.low is None or found.high is None:
        return None
    if gate["comparison"] == "below":
        return True if found.high < gate["threshold"] else False if found.low >= gate["threshold"] else None
    return True if found.low > gate["threshold"] else False if found.high <= gate["threshold"] else None


def records_needed(gate: dict, found: Estimate) -> int | None:
    """Estimate the number of records that would decide the gate if the value stayed the same.

    Intervals shrink with the square root of n, or with n if all answers are yes or all no. 10 % is added.
    """
    if found.low is None or found.value == gate["threshold"]:
        return None
    distance = abs(found.value - gate["threshold"])
    reach = found.value - found.low if found.value > gate["threshold"] else found.high - found.value
    alike = METRICS[gate["metric"]].statistic in SHARES and gate["baseline"] is None and found.value in (0, 1)
    if METRICS[gate["metric"]].is_share and not alike:
        reach = max(found.value - found.low, found.high - found.value)  # the other side may be clipped at 0 or 1
    return math.ceil(1.1 * found.n * (reach / distance) ** (1 if alike else 2))


def described(gate: dict, value: float) -> str:
    """Return a gate's value with its unit: a metric's value, a difference, or a relative difference."""
    if gate["baseline"] is None:
        return shown(gate["metric"], value)
    if gate["relative"]:
        return f"{number(100 * value, signed=True)} %"
    return shown(gate["metric"], value, signed=True)


def reason_line(gate: dict, found: Estimate, outcome: bool | None) -> str:
    """Return one line with the result and, if it is uncertain, the number of records needed."""
    title = METRICS[gate["metric"]].title
    subject = f"{title} of {gate['variant']}" + (f" against {gate['baseline']}" if gate["baseline"] else "")
    value = described(gate, found.value)
    aim = f"{gate['comparison']} {described(gate, gate['threshold'])}"
    if found.low is None:
        return f"{subject} is {value}, with {found.n} record: no interval; more test records are needed"
    spread = f"{value} ({described(gate, found.low)} to {described(gate, found.high)}, n = {found.n})"
    if outcome is not None:
        return f"{subject} is {spread}: {'' if outcome else 'not '}{aim}"
    needed = records_needed(gate, found)
    far = needed is None or needed > 1000 * found.n
    many = "far more test records are" if far else f"about {needed} test records are"
    side = "below" if found.value < gate["threshold"] else "above"
    bound = described(gate, gate["threshold"])
    return f"{subject} is {spread}: may lie on either side of {bound}; if it is {side}, {many} needed to tell"


def judge_gate(name: str, gate: dict, scores: dict[str, dict], resamples: int, seed: int) -> dict:
    """Return one gate's entry of the verdict."""
    found = gate_estimate(gate, scores, resamples, seed)
    entry = {
        "name": name,
        **{key: gate[key] for key in ("metric", "variant", "baseline", "relative", "comparison", "threshold")},
        "on_failure": gate["on_failure"],
    }
    if isinstance(found, str):
        line = f"{METRICS[gate['metric']].title} can't be evaluated: {found}"
        return {**entry, "value": None, "low": None, "high": None, "n": 0, "passed": None, "reason": line}
    outcome = passed(gate, found)
    return {**entry, **found.row(), "passed": outcome, "reason": reason_line(gate, found, outcome)}


def judge(gates: list[dict]) -> tuple[str, str]:
    """Return the verdict that follows from evaluated gates, and the reason in one line."""
    failed = [gate for gate in gates if gate["passed"] is False]
    unsure = [gate for gate in gates if gate["passed"] is None]
    fatal = [gate for gate in failed if gate["on_failure"] == "rollback"]
    if not gates:
        return "hold", "no gate is defined for this run"
    if fatal:
        return "rollback", f"clearly failed: {names(fatal)}"
    if failed:
        return "hold", f"failed: {names(failed)}" + (f"; uncertain: {names(unsure)}" if unsure else "")
    if unsure:
        return "hold", f"uncertain: {names(unsure)}"
    return "promote", "every gate passed" if len(gates) > 1 else "its gate passed"


def names(gates: list[dict]) -> str:
    """Return the gates' names, joined."""
    return ", ".join(gate["name"] for gate in gates)


def verdict(
    run: str,
    gates: dict[str, dict],
    shipped: str,
    scores: dict[str, dict],
    resamples: int,
    seed: int,
    stand_in: bool = False,
    diverged: str | None = None,
) -> dict:
    """Return a run's verdict; `shipped` in a gate means the shipped variant.

    A run with a stand-in as its base model is never promoted; neither is one where most answers of the shipped variant
    are empty or the same text. One whose training diverged is rolled back; `diverged` says what happened.
    """
    resolved = {
        name: {**gate, **{side: shipped if gate[side] == "shipped" else gate[side] for side in ("variant", "baseline")}}
        for name, gate in gates.items()
    }
    judged = [judge_gate(name, gate, scores, resamples, seed) for name, gate in resolved.items()]
    word, why = judge(judged)
    warnings, is_useless = answer_faults(shipped, scores)
    if is_useless and word != "rollback":
        word, why = "hold", "; ".join([*warnings, *([why] if word == "hold" else [])])
    if diverged:
        word, why = "rollback", diverged
    if stand_in:
        word, why = "hold" if word == "promote" else word, f"{NOTE}; {why}"
    found = {"run": run, "verdict": word, "reason": why, "shipped": shipped, "stand_in": stand_in}
    return {**found, "diverged": diverged, "warnings": warnings, "gates": judged}


def answer_faults(shipped: str, scores: dict[str, dict]) -> tuple[list[str], bool]:
    """Return warnings on empty or equal answers of the shipped variant, and whether most answers are such.

    Few gates detect them. Equal answers are plausible if more than half as many expected answers, or questions, are
    equal; `commonest` is None where they always are.
    """
    if shipped not in scores:
        return [], False
    found, equal = scores[shipped], scores[shipped]["commonest"]
    is_same = (
        equal is not None
        and 2 * equal["answers"] > found["records"]
        and equal["answers"] >= 2 * max(equal["expected"], equal["questions"])
    )
    warnings = [f"{found['empty']} of {found['records']} answers of {shipped} are empty"] if found["empty"] else []
    if is_same:
        warnings.append(f"{equal['answers']} of {found['records']} answers of {shipped} are the same text")
    return warnings, is_same or 2 * found["empty"] > found["records"]
