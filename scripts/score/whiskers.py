"""Positions of values and intervals for the dot-and-whisker plots in tables."""


def whiskers(estimates: list[dict | None], marks: list[float] = ()) -> dict:
    """Return dot-and-whisker positions in percent of the width, one per estimate (None: no value).

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
