"""Warnings at the top of a dataset's ledger: settings that do not fit the data, and data that contradict themselves."""

from scripts.dataset.spans import OUTSIDE, without_number

SHOWN = 10  # labels named in a line
FEW_GROUPS, TOO_FEW_GROUPS = 10, 5  # of a test split; the limits of scores and gates


def look_first(ledger: dict) -> list[str]:
    """Return a line for each setting that does not fit the data, and for data that contradict themselves."""
    return [
        *check_lines(ledger),
        *violation_lines(ledger["checks"]),
        *contradiction_lines(ledger["contradictions"]),
        *correction_lines(ledger["corrections"]),
        *map_lines("label_map", ledger["label_map"], "record"),
        *map_lines("span_label_map", ledger["span_label_map"], "span"),
        *number_lines(ledger["raw_spans"]),
        *filter(None, [share_line(ledger["splits"]), group_line(ledger["groups"])]),
    ]


def check_lines(ledger: dict) -> list[str]:
    """Return a line for each check of a label that no record has."""
    there = listed([row["label"] for row in ledger["labels"]])
    return [
        f"Check {check['check']} applies to no record, because none has its label '{check['label']}'. "
        f"The labels are {there}."
        for check in ledger["checks"]
        if not check["records"]
    ]


def violation_lines(checks: list[dict]) -> list[str]:
    """Return a line for each check that kept records violate."""

    def whose(check: dict) -> str:
        return "" if check["label"] is None else f" (label '{check['label']}')"

    fates = {"list": "", "relabel": " with the label 'unknown'"}
    return [
        f"Check {check['check']}{whose(check)} is violated by {check['count']} of {check['records']} records. "
        f"`on_violation: {check['on_violation']}` keeps them{fates[check['on_violation']]}: see Checks."
        for check in checks
        if check["count"] and check["on_violation"] in fates
    ]


def contradiction_lines(count: int) -> list[str]:
    """Return a line on removed duplicates with another label, or other spans, than the record that is kept."""
    if not count:
        return []
    are = "duplicates have" if count > 1 else "duplicate has"
    return [f"{count} removed {are} another label, or other spans, than the record that is kept: see Duplicates."]


def correction_lines(corrections: dict | None) -> list[str]:
    """Return lines on corrections of the test split, and on corrections that did not apply."""
    lines, corrections = [], corrections or {"test_records": 0, "rows": []}
    if count := corrections["test_records"]:
        are = "records of the test split were" if count > 1 else "record of the test split was"
        lines.append(f"{count} {are} corrected or dropped: scores from before and from after are not comparable.")
    if count := sum(row["not_applied"] is not None for row in corrections["rows"]):
        lines.append(f"{count} correction{'s' if count > 1 else ''} did not apply: see Corrections.")
    return lines


def group_line(groups: dict | None) -> str | None:
    """Return a line if `group_by` leaves few groups in the test split."""
    if groups is None or groups["test"] >= FEW_GROUPS or not groups["test"]:
        return None
    are = "groups" if groups["test"] > 1 else "group"
    return (
        f"The test split has {groups['test']} {are} (group_by: {groups['by']}). Intervals count groups: under "
        f"{FEW_GROUPS} they are wide, under {TOO_FEW_GROUPS} no gate on this split is decided."
    )


def map_lines(key: str, fit: dict | None, unit: str) -> list[str]:
    """Return lines on the keys of a label map that the data lack, and on the labels that it does not name."""
    lines = []
    if fit and fit["unused"]:
        lines.append(f"No {unit} has these labels that {key} names: {listed(fit['unused'])}.")
    if fit and fit["unmapped"]:
        counted = listed([f"{row['label']} ({row['count']})" for row in fit["unmapped"]])
        lines.append(f"{key} does not name these labels, which stay as they are: {counted}.")
    return lines


def number_lines(raw_spans: dict | None) -> list[str]:
    """Return a line that proposes to strip the numbers of span labels, if some differ only by their number."""
    labels = sorted({row["label"] for row in raw_spans["labels"]} - {OUTSIDE}) if raw_spans else []
    stems: dict[str, list[str]] = {}
    for label in labels:
        stems.setdefault(without_number(label), []).append(label)
    if len(stems) == len(labels):
        return []
    examples = [f"{group[0]} and {group[1]}" for group in stems.values() if len(group) > 1][:3]
    return [
        f"Span labels differ only by a number, such as {', '.join(examples)}, and each is a separate class. With "
        f"strip_span_label_numbers: true the {len(labels)} classes become {len(stems)}."
    ]


def share_line(splits: dict) -> str | None:
    """Return the wanted and achieved shares, and advice, if a split's share is far from the wanted one."""
    shares = [share for share in splits["shares"] if share["wanted"] > 0]
    if not any(share["off"] for share in shares):
        return None
    found = ", ".join(
        f"{share['split']} has {share['achieved']:.1%} (wanted: {share['wanted']:.1%})" for share in shares
    )
    limit = (
        f"with {sum(share['groups'] for share in shares)} groups, up to {100 * splits['share_tolerance']:.1f} points"
    )
    line = f"The splits do not have the wanted shares: {found}; {limit} of difference are tolerated."
    fit = splits["stratification"]
    if fit is None:
        return f"{line} Try another splits.seed."
    if fit["best_shares_off"] >= fit["shares_off"]:
        return f"{line} No seed tried brings more splits within the tolerance: add groups, or change the shares."
    better = ", ".join(f"{share['split']} {fit['best_shares'][share['split']]:.1%}" for share in shares)
    return f"{line} splits.seed: {fit['best_seed']} gives {better}."


def listed(labels: list[str]) -> str:
    """Return the first labels as text, and the number of further ones."""
    return ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
