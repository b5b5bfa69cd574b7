"""Write docs/benchmarks.md from what was measured.

python -m tests.benchmarks.page
"""

import json
import statistics

from tests.benchmarks import bench_times
from tests.benchmarks.compare import MEASURED, ROOT

PAGE = ROOT / "docs/benchmarks.md"
FINDINGS = ROOT / "tests/benchmarks/findings.md"  # written by hand: what was tried, what paid and what did not
HEAD = """\
# How fast it is

Made by `make bench` and `python -m tests.benchmarks.bench_times`; do not edit. Each row is one run in which our step
and the other side were measured in turn; the number is the median, with the smallest and the largest in brackets. The
ratio is ours divided by the best of the others. Figures of different processors are never in one row.
"""


def number(value: float) -> str:
    """Return a number with at most four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def spread(values: list[float]) -> str:
    """Return the median, and smallest and largest where there are several."""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


def side(name: str, measured: list[dict[str, float]]) -> str:
    """Return the cell of a side: every unit that it was measured in."""
    units = [unit for unit in measured[0] if all(unit in each for each in measured)]
    return f"{name}: " + ", ".join(f"{spread([each[unit] for each in measured])} {unit}" for unit in units)


def table(records: list[dict]) -> list[str]:
    """Return the lines of a processor's table, and of the notes below it."""
    lines = ["| what | ours | others | ratio | goal | met |", "|---|---|---|---:|---|---|"]
    for record in records:
        (ours, found), *others = record["sides"].items()
        cells = [record["what"], side(ours, found), "<br>".join(side(*other) for other in others)]
        cells += [number(record["ratio"]), record["goal"], "yes" if record["met"] else "**no**"]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for record in records:
        made = [f"`{record['command']}`", f"{record['commit']}, {record['date']}", *record["versions"], record["note"]]
        lines.append(f"- {record['what']}: " + "; ".join(part for part in made if part).rstrip(".") + ".")
    return lines


def page() -> str:
    """Return the page: a table of comparisons for each processor, then times of whole commands, then findings."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(MEASURED.glob("*.json"))]
    lines = [HEAD] if records else [HEAD, "No comparison has been measured on a quiet machine yet.\n"]
    for processor in dict.fromkeys(record["processor"] for record in records):
        lines += [f"## {processor}", "", *table([each for each in records if each["processor"] == processor]), ""]
    if FINDINGS.exists():
        lines += [FINDINGS.read_text(encoding="utf-8").rstrip(), ""]
    times = json.loads(bench_times.MEASUREMENTS.read_text(encoding="utf-8"))
    return "\n".join([*lines, bench_times.section(times)])


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
