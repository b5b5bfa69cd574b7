"""Pictures of values for pages: dots with whiskers, gates with a scale, and the sizes of quantized models.

Positions are in percent of a picture's width.
"""

import math

from scripts.score.board import display
from scripts.score.columns import MAIN
from scripts.score.gates import described
from scripts.score.metrics import METRICS

KEYS = ("value", "low", "high")
TICKS = 4  # on the scale of a gate, about
EDGE = 12.0  # a text that is nearer to an edge is aligned with it


def reach(values: list[float], margin: float) -> tuple[float, float]:
    """Return the ends of a scale for values, with this share of their range free on both sides."""
    free = margin * (max(values) - min(values) or abs(max(values)) or 1.0)
    return min(values) - free, max(values) + free


def positions(found: dict, ends: tuple[float, float]) -> dict:
    """Return where value and limits of an interval are on a scale; None for a missing one."""
    return {key: None if found[key] is None else position(found[key], ends) for key in KEYS}


def position(value: float, ends: tuple[float, float]) -> float:
    """Return where a value is on a scale."""
    low, high = ends
    return round(100 * (value - low) / (high - low), 2)


def whiskers(estimates: list[dict | None], marks: list[float] = ()) -> dict:
    """Return dot-and-whisker positions, one per estimate (None: no value), and those of `marks`."""
    values = [found[key] for found in estimates if found for key in KEYS if found[key] is not None] + list(marks)
    if not values:
        return {"rows": [None for _ in estimates], "marks": []}
    ends = reach(values, 0.04)
    return {
        "rows": [found and positions(found, ends) for found in estimates],
        "marks": [position(mark, ends) for mark in marks],
    }


def gate_picture(gate: dict) -> dict | None:
    """Return a judged gate's value and interval on a scale, with its threshold and the allowed side; None without one.

    `ticks` and `threshold` are {"at", "text", "anchor"}, `allowed` is where the allowed side starts and how wide it is.
    """
    if gate["value"] is None:
        return None
    threshold = gate["threshold"]
    low, high = reach([gate[key] for key in KEYS if gate[key] is not None] + [threshold], 0.15)
    if METRICS[gate["metric"]].is_share and gate["baseline"] is None:
        low, high = max(low, 0.0), min(high, 1.0)

    def label(value: float, text: str, edge: float) -> dict:
        at = position(value, (low, high))
        return {"at": at, "text": text, "anchor": "start" if at < edge else "end" if at > 100 - edge else "middle"}

    bound = label(threshold, f"{gate['comparison']} {described(gate, threshold)}", 50)
    start, end = (bound["at"], 100) if gate["comparison"] == "above" else (0, bound["at"])
    return {
        "row": positions(gate, (low, high)),
        "threshold": bound,
        "allowed": {"start": start, "width": round(end - start, 2)},
        "ticks": [label(value, text, EDGE) for value, text in ticks(gate, low, high)],
    }


def ticks(gate: dict, low: float, high: float) -> list[tuple[float, str]]:
    """Return (value, text) of round numbers between two values of a gate's metric, without the unit."""
    scale = 100 if gate["relative"] or METRICS[gate["metric"]].unit == "%" else 1
    least = scale * (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(least))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= least)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = range(math.ceil(scale * low / step), math.floor(scale * high / step) + 1)
    texts = [f"{number * step:{'+' if gate['baseline'] and number else ''},.{decimals}f}" for number in numbers]
    return [
        (number * step / scale, text.replace("-", "−").replace(",", "\u202f"))
        for number, text in zip(numbers, texts, strict=True)
    ]


def ladder(scores: dict[str, dict], sizes: dict[str, int]) -> dict | None:
    """Return size, quality and speed of a run's scored GGUF files, largest first; None for fewer than two.

    `sizes` are bytes by variant. Quality is the main metric of the kind of answers, or the perplexity.
    """
    variants = sorted((name for name in scores if name in sizes), key=lambda name: -sizes[name])
    if len(variants) < 2:
        return None
    known = (MAIN[scores[variants[0]]["answer_kind"]], "perplexity")
    quality = next((m for m in known if all(scores[name]["metrics"].get(m) for name in variants)), known[0])
    columns = {}
    for metric in (quality, "seconds_p50"):
        found = [
            scores[name]["metrics"].get(metric) or {"value": None, "reason": scores[name]["reasons"].get(metric, "")}
            for name in variants
        ]
        charts = whiskers([each if each["value"] is not None else None for each in found])["rows"]
        columns[metric] = [display(metric, each) | {"chart": chart} for each, chart in zip(found, charts, strict=True)]
    return {
        "quality": METRICS[quality],
        "rows": [
            {
                "variant": name,
                "megabytes": sizes[name] / 1e6,
                "share": round(100 * sizes[name] / sizes[variants[0]], 1),
                "quality": columns[quality][index],
                "speed": columns["seconds_p50"][index],
            }
            for index, name in enumerate(variants)
        ],
    }
