"""Draw a training curve: loss (training, validation), learning rate and speed over the optimizer steps.

python scripts/train/plot_curve.py results/runs/football/curve.jsonl --plot results/runs/football/curve.svg
"""

import sys
from pathlib import Path

from scripts.common.charts import curve_svg
from scripts.common.cli import step_main, step_parser
from scripts.common.files import read_jsonl, write_text


def step(arguments) -> None:
    """Draw the curve; without points the picture is empty."""
    empty = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    write_text(arguments.plot, curve_svg(list(read_jsonl(arguments.curve))) or empty)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("curve", type=Path, help="curve.jsonl of a run")
    result.add_argument("--plot", type=Path, required=True, help="SVG file to write")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
