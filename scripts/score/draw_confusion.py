"""Write the confusion matrix of word classes on the test split, as table and as picture.

    python scripts/score/draw_confusion.py scores/merged.json --table confusion/merged.csv \
        --picture confusion/merged.svg

Rows are the expected classes, columns those of the answers, both with `O` for words outside of entities; cells count
words. The picture shades each cell by its share of its row.
"""

import csv
import io
import sys
from pathlib import Path

from scripts.common.charts import figure, svg_of
from scripts.common.cli import step_main, step_parser
from scripts.common.files import write_text
from scripts.score.entity_tables import shares
from scripts.score.read_scores import read_scores

CORNER = "right class \\ found class"
CELL = 0.62  # inches


def table_text(matrix: dict) -> str:
    """Return the matrix as CSV: a line per expected class, a column per found class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([CORNER, *matrix["columns"]])
    writer.writerows([label, *row] for label, row in zip(matrix["labels"], matrix["counts"], strict=True))
    return text.getvalue()


def drawn(matrix: dict, title: str) -> str:
    """Return the matrix as SVG."""
    labels, columns, counts = matrix["labels"], matrix["columns"], matrix["counts"]
    size = (2.4 + CELL * len(columns), 1.6 + CELL * 0.7 * len(labels))
    with figure(figsize=size, font_size=9) as (picture, [axis]):
        image = axis.imshow(shares(counts), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.grid(False)
        axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(labels)), labels)
        axis.set_xlabel("found class")
        axis.set_ylabel("right class")
        axis.set_title(title, fontsize=11)
        for row, values in enumerate(shares(counts)):
            for column, share in enumerate(values):
                if counts[row][column]:
                    colour = "white" if share > 0.6 else "black"
                    text = f"{counts[row][column]:,}".replace(",", "\u202f")
                    axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        picture.colorbar(image, ax=axis, label="share of the words of the right class", fraction=0.04, pad=0.02)
        return svg_of(picture)


def step(arguments) -> None:
    """Read a variant's scores, and write its confusion matrix."""
    scores = read_scores(arguments.scores)
    matrix = scores["entities"]["confusion"]
    write_text(arguments.table, table_text(matrix))
    title = f"{scores['run']}, {scores['variant']}: words of {scores['records']} records"
    write_text(arguments.picture, drawn(matrix, title))


def parser():
    """Return the step's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    parser.add_argument("scores", type=Path, help="scores of one variant (JSON)")
    parser.add_argument("--table", type=Path, required=True, help="table to write (CSV)")
    parser.add_argument("--picture", type=Path, required=True, help="picture to write (SVG)")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
