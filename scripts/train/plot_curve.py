"""Draw a training curve: loss (training, validation) and learning rate over the optimizer steps.

python scripts/train/plot_curve.py results/runs/football/curve.jsonl --plot results/runs/football/curve.svg
"""

import sys
from pathlib import Path

from scripts.common.cli import run_step, step_parser
from scripts.common.files import atomic_path, read_jsonl


def plot_curve(rows: list[dict], path: Path) -> None:
    """Write the curve as SVG, the same bytes for the same rows; losses in nats per token."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "snaketune", "svg.fonttype": "none", "font.size": 11})
    from matplotlib import pyplot

    figure, (losses, rate) = pyplot.subplots(
        2, 1, figsize=(8, 5), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    for key, label, style in (("loss", "training", "-"), ("eval_loss", "validation", "o--")):
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            losses.plot(*zip(*points, strict=True), style, label=label)
    losses.set_ylabel("loss (nats per token)")
    losses.legend()
    points = [(row["step"], row["learning_rate"]) for row in rows if "learning_rate" in row]
    if points:
        rate.plot(*zip(*points, strict=True), color="gray")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("optimizer step")
    for axis in (losses, rate):
        axis.grid(alpha=0.3)
    with atomic_path(path) as beside:
        figure.savefig(beside, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def step(arguments) -> None:
    """Run the step."""
    plot_curve(list(read_jsonl(arguments.curve)), arguments.plot)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("curve", type=Path, help="curve.jsonl of a run")
    result.add_argument("--plot", type=Path, required=True, help="SVG file to write")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
