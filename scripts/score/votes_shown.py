"""What gates, report and model card say of people's votes: how many there are, and the rate that human texts get."""

from scripts.score.board import display
from scripts.score.intervals import FEW_READERS
from scripts.score.metrics import METRICS
from scripts.score.people import ignored_text
from scripts.score.shown import counted, in_a_sentence, interval_text, shown
from scripts.score.votes import MEASURED


def human_rate(metric: str, facts: dict) -> str:
    """Return what the expected answers, written by people, get in a metric; a dash where they can't be judged."""
    if metric == "win_rate":
        return "–"
    return with_interval(metric, facts["expected"]) if facts["expected"] else "not judged"


def size_line(metric: str, facts: dict) -> str:
    """Return the numbers of votes and readers, and what human texts get."""
    human = "" if metric == "win_rate" else f"; human texts: {human_rate(metric, facts)}"
    return f"{counted(facts['votes'], 'vote')} of {counted(len(facts['readers']), 'reader')}{human}"


def with_interval(metric: str, found: dict) -> str:
    """Return a value with its interval and number of records."""
    return f"{shown(metric, found['value'])} ({interval_text(metric, found)}, n = {found['n']})"


def beside_gate(gate: dict, scores: dict[str, dict]) -> str:
    """Return what to add to the line of a gate on people's votes: their number, and the rate of human texts."""
    if gate["value"] is None or not METRICS[gate["metric"]].is_by_people:
        return ""
    return f"; {size_line(gate['metric'], scores[gate['variant']]['people']['metrics'][gate['metric']])}"


def votes_section(scores: dict[str, dict]) -> dict | None:
    """Return the report's table of people's votes, a row for each metric and variant; None without any votes."""
    told = {variant: found["people"] for variant, found in scores.items() if found["people"]}
    rows = [
        {
            **display(metric, scores[variant]["metrics"][metric]),
            **people["metrics"][metric],
            "readers": len(people["metrics"][metric]["readers"]),
            "metric": METRICS[metric],
            "variant": variant,
            "human": human_rate(metric, people["metrics"][metric]),
        }
        for metric in MEASURED.values()
        for variant, people in told.items()
        if metric in people["metrics"] and scores[variant]["metrics"][metric]
    ]
    if not told:
        return None
    first = next(iter(told.values()))
    ignored = {variant: people["ignored"] for variant, people in told.items()}
    ignored["expected texts"] = first["ignored_expected"]
    return {
        "rows": rows,
        "file": first["file"],
        "rival": first["rival"],
        "models": first["models"],
        "few": FEW_READERS if any(row["readers"] < FEW_READERS for row in rows) else None,
        "ignored": [
            f"{side}, {in_a_sentence(METRICS[metric].title)}: {ignored_text(reasons)}"
            for side, counts in ignored.items()
            for metric, reasons in counts.items()
        ],
    }


def card_lines(scores: dict) -> list[str]:
    """Return a line for the model card on each metric of people's votes on the shipped variant."""
    people, lines = scores["people"] or {"metrics": {}}, []
    for metric, facts in people["metrics"].items():
        if found := scores["metrics"][metric]:
            title = in_a_sentence(METRICS[metric].title) + (f" ({people['rival']})" if metric == "win_rate" else "")
            lines.append(f"{title}: {with_interval(metric, found)}, {size_line(metric, facts)}")
    return lines
