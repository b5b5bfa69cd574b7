"""Draw charts with matplotlib as SVG without a background; the same data gives the same bytes.

Text and axes take the text colour of the surrounding page (`currentColor`). The colours of lines are legible on white
and on black.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

BLUE, GREEN, GREY = "#3f86c6", "#3a9a6b", "#8a93a0"
INK = "#010203"  # becomes currentColor
STYLE = {
    "svg.hashsalt": "snaketune",  # makes ids reproducible
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # labels are data; `$` does not start a formula
    "font.family": "sans-serif",
    "savefig.transparent": True,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "legend.frameon": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def figure(rows: int = 1, **options) -> Iterator:
    """Yield a matplotlib figure and its `rows` axes, stacked vertically; close the figure after the block."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({**STYLE, "font.size": options.pop("font_size", 10)}):
        drawn, axes = pyplot.subplots(rows, squeeze=False, layout="constrained", **options)
        try:
            yield drawn, axes[:, 0]
        finally:
            pyplot.close(drawn)


def svg_of(drawn) -> str:
    """Return a figure as an SVG document. Call it within the `figure` block."""
    text = io.StringIO()
    drawn.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().replace(INK, "currentColor")


def inline(svg: str, label: str) -> "Markup":
    """Return an SVG document of `svg_of` as an HTML element that fills the width of its container."""
    from markupsafe import Markup, escape

    element = svg[svg.index("<svg ") :]
    element = re.sub(r"<(style|metadata).*?</\1>", "", element, flags=re.DOTALL)
    element = re.sub(r' id="[\w.]+_\d+"', "", element)  # other charts on the page have the same ids
    box = re.search(r'viewBox="[^"]+"', element)[0]
    start = f'<svg role="img" aria-label="{escape(label)}" {box}>'
    return Markup(re.sub(r"<svg [^>]*>", start, element, count=1))  # noqa: S704 (matplotlib escapes its texts)


def curve_svg(rows: list[dict]) -> str | None:
    """Return loss, learning rate and speed of a training by optimizer step as SVG; None if there are no numbers."""

    def points(key: str) -> list[tuple[float, float]]:
        return [(row["step"], row[key]) for row in rows if row.get(key) is not None]

    speeds = sorted({key for row in rows for key in row if key.startswith("tokens_per_second")})
    wanted = {
        "loss (nats per token)": [("loss", "training", "-"), ("eval_loss", "validation", "o--")],
        "learning rate": [("learning_rate", "learning rate", "-")],
        "tokens per second": [(key, key.replace("_", " "), "-") for key in speeds],
    }
    panels = {}
    for title, lines in wanted.items():
        if found := [(points(key), label, style) for key, label, style in lines if points(key)]:
            panels[title] = found
    if not panels:
        return None
    ratios = [3 if title.startswith("loss") else 1.2 for title in panels]
    with figure(len(panels), figsize=(8, 1 + 1.1 * sum(ratios)), sharex=True, height_ratios=ratios) as (drawn, axes):
        for axis, (title, lines) in zip(axes, panels.items(), strict=True):
            for (found, label, style), colour in zip(lines, (BLUE, GREEN, GREY), strict=False):
                axis.plot(*zip(*found, strict=True), style, label=label, color=colour)
            axis.set_ylabel(title)
            if len(lines) > 1:
                axis.legend()
        axes[-1].set_xlabel("optimizer step")
        return svg_of(drawn)


def histogram_svg(lengths: dict, unit: str) -> str:
    """Return a histogram of lengths as SVG, with a dashed line at the median.

    `lengths` has "median" and "histogram", a list of bins {"from", "to", "records"} that exclude `to`. The last bin
    holds all greater lengths, but is as wide as the others.
    """
    bins = lengths["histogram"]
    edges = [entry["from"] for entry in bins]
    edges.append(edges[-1] + bins[0]["to"] - bins[0]["from"])
    with figure(figsize=(4.6, 1.8)) as (drawn, [axis]):  # about as wide as a phone, so text keeps its size
        axis.stairs([entry["records"] for entry in bins], edges, fill=True, color=GREEN, alpha=0.8)
        axis.axvline(lengths["median"], color=INK, linestyle="--")
        axis.set_ylabel(unit)
        return svg_of(drawn)
