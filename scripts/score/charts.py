"""Positions of points, lines and labels in small inline SVG charts; the pages draw them, and escape every label."""

import math

from scripts.score.catalogue import number

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 36


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers that cover a range, steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 12) for index in range(first, last + 1)]


def whiskers(estimates: list[dict | None], marks: list[float] = ()) -> dict:
    """Return dot-and-whisker positions in per cent of the width, one per estimate (None: no value).

    `estimates` are {"value", "low", "high"}; `marks` are further values on the scale, such as a threshold.
    """
    shown = [found for found in estimates if found is not None]
    values = [found[key] for found in shown for key in ("value", "low", "high") if found[key] is not None]
    values += marks
    if not values:
        return {"rows": [None for _ in estimates], "marks": [], "low": None, "high": None}
    low, high = min(values), max(values)
    margin = (high - low or abs(high) or 1.0) * 0.04
    low, high = low - margin, high + margin

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    rows = [found and {key: place(found[key]) for key in ("value", "low", "high")} for found in estimates]
    return {"rows": rows, "marks": [place(mark) for mark in marks], "low": low + margin, "high": high - margin}


def line_chart(series: list[dict], x_label: str) -> dict | None:
    """Return a line chart's geometry in SVG units; None when no series has a point.

    `series` holds {"name", "kind", "points": [(x, y)]}; points that are not finite are left out.
    """
    kept = []
    for line in series:
        points = [(x, y) for x, y in line["points"] if math.isfinite(x) and math.isfinite(y)]
        if points:
            kept.append({**line, "points": points})
    if not kept:
        return None
    x_ticks = nice_ticks(min(x for line in kept for x, _ in line["points"]), max(all_of(kept, 0)), 5)
    y_ticks = nice_ticks(min(all_of(kept, 1)), max(all_of(kept, 1)))

    def across(x: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]), 1)

    def down(y: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]), 1)

    lines = []
    for line in kept:
        places = [(across(x), down(y)) for x, y in line["points"]]
        path = "M" + " L".join(f"{x} {y}" for x, y in places)
        dots = places if line["kind"] == "dots" or len(places) == 1 else []
        lines.append({"name": line["name"], "kind": line["kind"], "path": path, "dots": dots})
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "top": TOP,
        "x_label": x_label,
        "x_ticks": [{"place": across(tick), "text": tick_text(tick)} for tick in x_ticks],
        "y_ticks": [{"place": down(tick), "text": tick_text(tick)} for tick in y_ticks],
        "lines": lines,
    }


def all_of(series: list[dict], axis: int) -> list[float]:
    """Return all x (axis 0) or y (axis 1) of the series."""
    return [point[axis] for line in series for point in line["points"]]


def tick_text(value: float) -> str:
    """Return a tick's label without needless digits."""
    return f"{value:g}".replace("-", "−") if abs(value) < 10_000 else number(value)


def curve_charts(rows: list[dict]) -> list[dict]:
    """Return the charts of a training curve: loss, learning rate, speed; those that the rows have numbers for."""

    def points(key: str) -> list[tuple[float, float]]:
        return [(row["step"], row[key]) for row in rows if is_number(row.get(key)) and is_number(row.get("step"))]

    speed = sorted({key for row in rows for key in row if key.startswith("tokens_per_second")})
    wanted = [
        ("Loss", [("training", "line", "loss"), ("validation", "dots", "eval_loss")]),
        ("Learning rate", [("learning rate", "line", "learning_rate")]),
        ("Tokens per second", [(key.replace("_", " "), "line", key) for key in speed]),
    ]
    charts = []
    for title, lines in wanted:
        series = [{"name": name, "kind": kind, "points": points(key)} for name, kind, key in lines]
        if chart := line_chart(series, "optimizer step"):
            charts.append({"title": title, **chart})
    return charts


def is_number(value) -> bool:
    """Say whether a value of a row is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
