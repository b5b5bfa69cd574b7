"""Gates: requirements for a trained model, evaluated with intervals."""

import math

from scripts.score.interval_kinds import LEVEL, Interval
from scripts.score.intervals import FEW_UNITS, difference, interval
from scripts.score.metrics import METRICS
from scripts.score.shown import counted, number, shown, whole

PASSED, FAILED, UNDECIDED, NOT_MEASURABLE = "passed", "failed", "undecided", "not measurable"
NOT_MEASURED = "not measured"  # people have not judged yet
KEYS = ("metric", "variant", "baseline", "relative", "comparison", "threshold", "on_failure")


def paired_rows(scores: dict, baseline: dict, metric: str) -> tuple[list, list, list | None]:
    """Return both sides' statistics of a metric for their common records, in the same order, and the groups."""
    ours, theirs = scores["statistics"].get(metric), baseline["statistics"].get(metric)
    if ours is None or theirs is None:
        return [], [], None
    groups = scores["groups"]
    if scores["ids"] != baseline["ids"]:
        positions = {identity: index for index, identity in reversed(list(enumerate(baseline["ids"])))}
        shared = [(index, positions[identity]) for index, identity in enumerate(scores["ids"]) if identity in positions]
        groups = groups and [groups[index] for index, _ in shared]
        ours, theirs = [ours[index] for index, _ in shared], [theirs[index] for _, index in shared]
    if METRICS[metric].is_by_people:
        readers = [side["people"]["metrics"][metric]["readers"] for side in (scores, baseline)]
        ours, theirs = same_readers(ours, theirs, *readers)
    return ours, theirs, groups


def same_readers(ours: list, theirs: list, our_readers: list[str], their_readers: list[str]) -> tuple[list, list]:
    """Return both sides' rows of the statistic `votes` with the votes of readers who judged both sides of a record.

    Votes of different readers would compare the readers.
    """
    readers = [reader for reader in our_readers if reader in their_readers]
    columns = [(2 * our_readers.index(reader), 2 * their_readers.index(reader)) for reader in readers]
    left, right = [], []
    for first, second in zip(ours, theirs, strict=True):
        cells = [(first[a : a + 2], second[b : b + 2]) for a, b in columns] if first and second else []
        cells = [cell if cell[0][1] and cell[1][1] else ([0, 0], [0, 0]) for cell in cells]
        is_judged = any(cell[1] for cell, _ in cells)
        left.append([number for cell, _ in cells for number in cell] if is_judged else None)
        right.append([number for _, cell in cells for number in cell] if is_judged else None)
    return left, right


def metric_interval(scores: dict, metric: str, resamples: int, seed: int) -> Interval | None:
    """Return a metric's value with its interval, from a score file."""
    entry, rows = METRICS[metric], scores["statistics"].get(metric)
    return rows and interval(entry.statistic, rows, scores["groups"], entry.is_share, resamples, seed)


def metric_difference(
    scores: dict, baseline: dict, metric: str, resamples: int, seed: int, relative: bool = False
) -> Interval | None:
    """Return the paired difference (scores minus baseline) of a metric, from two score files."""
    entry = METRICS[metric]
    ours, theirs, groups = paired_rows(scores, baseline, metric)
    return difference(entry.statistic, ours, theirs, groups, entry.is_share, relative, resamples, seed)


def gate_interval(gate: dict, scores: dict[str, dict], resamples: int, seed: int) -> Interval | str:
    """Return the interval for a gate, or the reason why there is none."""
    metric, variant, baseline = gate["metric"], gate["variant"], gate["baseline"]
    for side in (variant, baseline):
        if side is not None and side not in scores:
            return f"this run has no variant '{side}'"
        if side is not None and scores[side]["metrics"].get(metric) is None:
            return f"{side} has no value: {scores[side]['reasons'].get(metric, 'it was not scored')}"
    if variant == baseline:
        return f"it compares {variant} with itself"
    if baseline is None:
        return metric_interval(scores[variant], metric, resamples, seed) or "the value is not defined"
    if METRICS[metric].is_by_people and not any(paired_rows(scores[variant], scores[baseline], metric)[0]):
        return f"no reader judged both {variant} and {baseline} on a record"
    found = metric_difference(scores[variant], scores[baseline], metric, resamples, seed, gate["relative"])
    return found or "the difference is not defined (no common records, a baseline of 0, or a percentile)"


def described(gate: dict, value: float) -> str:
    """Return a gate's value with its unit: a metric's value, a difference, or a relative difference."""
    if gate["baseline"] is None:
        return shown(gate["metric"], value)
    if gate["relative"]:
        return f"{number(100 * value, signed=True)} %"
    return shown(gate["metric"], value, signed=True)


def subject(gate: dict) -> str:
    """Return what a gate is about: the metric, the variant and the baseline."""
    against = f" against {gate['baseline']}" if gate["baseline"] else ""
    return f"{METRICS[gate['metric']].title} of {gate['variant']}{against}"


def aim(gate: dict) -> str:
    """Return what a gate asks for, such as `above 15 %`."""
    return f"{gate['comparison']} {described(gate, gate['threshold'])}"


def extent(gate: dict, found: Interval, level: float) -> str:
    """Return the interval of a gate's value in words, with the number of records and groups."""
    low, high = found.limits(level)
    size = f"n = {found.n}" + (f" in {counted(found.groups, 'group')}" if found.groups else "")
    if low is None and high is None:
        return f"no interval, {size}"
    if low is None or high is None:
        side = f"at least {described(gate, low)}" if high is None else f"at most {described(gate, high)}"
        return f"{side}, {size}"
    at = "" if level == LEVEL else f" at {100 * level:.4g} %"
    return f"{described(gate, low)} to {described(gate, high)}{at}, {size}"


def reason_line(gate: dict, found: Interval, outcome: str, needed: int | None, level: float) -> str:
    """Return one line with the result, the interval at the level that decided, and why if it is undecided."""
    line = f"{subject(gate)} is {described(gate, found.value)} ({extent(gate, found, level)}): "
    if outcome != UNDECIDED:
        return line + ("" if outcome == PASSED else "not ") + aim(gate)
    if found.groups is not None and found.groups < FEW_UNITS:
        return f"{line}{counted(found.groups, 'group')} can't decide; at least {FEW_UNITS} are needed"
    return f"{line}may lie on either side of {described(gate, gate['threshold'])}; {records_line(gate, found, needed)}"


def records_line(gate: dict, found: Interval, needed: int | None) -> str:
    """Return how many records would decide a gate, and how if the value stays on the wrong side."""
    if found.by_readers:
        return "readers differ, so more readers would decide it, not more records"
    if needed is None:
        return "how many test records would decide it can't be said"
    records = "judged test records" if METRICS[gate["metric"]].is_by_people else "test records"
    groups = f" in some {whole(math.ceil(needed * found.groups / found.n))} groups" if found.groups else ""
    outcome = "decide it" if is_on_side(gate, found.value) else "show that it fails"
    return f"with this value, about {whole(needed)} {records}{groups} would {outcome}"


def is_on_side(gate: dict, value: float) -> bool:
    """Say whether a value lies on the side of the threshold that a gate asks for."""
    return value > gate["threshold"] if gate["comparison"] == "above" else value < gate["threshold"]


def judge_gates(gates: dict[str, dict], found: dict[str, Interval | str]) -> list[dict]:
    """Return the verdict's entry of each gate; `found` has what `gate_interval` returned for each.

    A gate passes if its 95 % interval lies on the right side of the threshold, and fails if it lies strictly beyond.
    With `looks: N` the interval is that of 1 - 0.05 / N. The failures of rollback gates are corrected for their number
    after Holm (1979, Scandinavian Journal of Statistics 6(2)), so that a run no different from its baseline is rolled
    back by chance in one of forty cases, however many gates it has. Passing needs no correction: all gates must pass.
    """
    measured = {name: one for name, one in found.items() if not isinstance(one, str)}
    fatal = {name: one for name, one in measured.items() if gates[name]["on_failure"] == "rollback"}
    ordered = sorted(fatal, key=lambda name: gates[name]["looks"] * fatal[name].p_value(gates[name]["threshold"]))
    levels = {name: 1 - (1 - LEVEL) / gates[name]["looks"] for name in gates}
    failing = {**levels}
    for rank, name in enumerate(ordered):
        failing[name] = 1 - (1 - LEVEL) / gates[name]["looks"] / (len(ordered) - rank)
    entries, is_rejecting = {}, True
    for name in [*ordered, *(name for name in gates if name not in fatal)]:
        may_fail = is_rejecting or name not in fatal
        entries[name] = judge_gate(name, gates[name], found[name], levels[name], failing[name], may_fail)
        if name in fatal:
            is_rejecting = is_rejecting and fatal[name].side(gates[name]["threshold"], failing[name]) != 0
    return [entries[name] for name in gates]


def judge_gate(
    name: str, gate: dict, found: Interval | str, level: float = LEVEL, failing: float = LEVEL, may_fail: bool = True
) -> dict:
    """Return one gate's entry; it passes at the confidence `level`, and fails at the level `failing`."""
    entry = {"name": name, **{key: gate[key] for key in KEYS}, "looks": gate["looks"], "level": round(failing, 6)}
    entry["passes_at"] = round(level, 6)
    if isinstance(found, str):
        known = METRICS[gate["metric"]]
        outcome, what = (NOT_MEASURED, "is not") if known.is_by_people else (NOT_MEASURABLE, "can't be")
        line = f"{known.title} {what} measured: {found}"
        empty = dict.fromkeys(("value", "low", "high", "groups", "passed", "needed", "smallest"))
        return {**entry, **empty, "n": 0, "outcome": outcome, "reason": line}
    wanted = 1 if gate["comparison"] == "above" else -1
    outcome, needed, smallest = UNDECIDED, None, None
    if found.groups is None or found.groups >= FEW_UNITS:
        if found.side(gate["threshold"], level) == wanted:
            outcome = PASSED
        elif may_fail and found.side(gate["threshold"], failing) == -wanted:
            outcome = FAILED
    if outcome == UNDECIDED:
        level = level if is_on_side(gate, found.value) else failing
        needed = found.needed(gate["threshold"], level)
        needed = needed and max(needed, found.n + 1)
        smallest = found.smallest(gate["threshold"], found.value > gate["threshold"], level)
    return {
        **entry,
        **found.row(),
        "passed": {PASSED: True, FAILED: False}.get(outcome),
        "outcome": outcome,
        "needed": needed,
        "smallest": smallest,
        "reason": reason_line(gate, found, outcome, needed, failing if outcome == FAILED else level),
    }
