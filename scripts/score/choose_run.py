"""Choose the run of a sweep that is judged on the test split: the best one on the validation split.

    printf '{"runs": {"captions-r16": "q8_0", "captions-r32": "q8_0"}, "select": null}' \
        | python scripts/score/choose_run.py results --sweep captions --choice results/sweeps/captions/choice.json \
        --settings @/dev/stdin

`runs` has the shipped variant of each run, `select` the metric that decides; none: the first ranking metric of this
kind of answers that has a value.
"""

import sys
from pathlib import Path

from scripts.common.checksums import known_sha256, note_input
from scripts.common.cli import step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.score.columns import RANKED_BY, kind_of
from scripts.score.metrics import METRICS
from scripts.score.read_scores import read_scores


def deciding_metric(sweep: str, scores: list[dict], select: str | None) -> str:
    """Return the metric that decides. Raises UserError if no run has a value of it on the validation split."""
    wanted = (select,) if select else RANKED_BY[kind_of(scores)]
    for metric in wanted:
        if any(found["metrics"].get(metric) for found in scores):
            return metric
    reason = scores[0]["reasons"].get(wanted[0], "it was not scored")
    raise UserError(
        f"no run of the sweep '{sweep}' has a value of {' or '.join(wanted)} on the validation split ({reason})",
        remedy=f"set runs.{sweep}.select to a metric that has one",
    )


def best(values: list[float | None], metric: str) -> int:
    """Return the position of a metric's best value, the first of equal ones; None is worse than any value."""
    places = [place for place, value in enumerate(values) if value is not None]
    return (min if METRICS[metric].direction == "lower" else max)(places, key=values.__getitem__)


def choice(sweep: str, scores: list[dict], select: str | None) -> dict:
    """Return the choice from the scores of a sweep's runs on the validation split, in the configuration's order."""
    metric = deciding_metric(sweep, scores, select)
    runs = [
        {
            "run": found["run"],
            "variant": found["variant"],
            **(found["metrics"].get(metric) or without_value(found, metric)),
        }
        for found in scores
    ]
    chosen = runs[best([row["value"] for row in runs], metric)]["run"]
    return {"sweep": sweep, "metric": metric, "chosen": chosen, "runs": runs}


def without_value(scores: dict, metric: str) -> dict:
    """Return the columns of a run that has no value of the metric."""
    return {"value": None, "low": None, "high": None, "n": 0, "reason": scores["reasons"].get(metric, "not scored")}


def step(arguments) -> None:
    """Read the scores of all runs and write the choice."""
    scores = []
    for run, variant in arguments.settings["runs"].items():
        path = arguments.results / "runs" / run / "validation" / "scores" / f"{variant}.json"
        scores.append(read_scores(path))
        note_input(path, known_sha256(path))  # the command line names the results folder only
    write_json(arguments.choice, choice(arguments.sweep, scores, arguments.settings["select"]))


def parser():
    """Return the step's command line."""
    parser = step_parser("Choose the run of a sweep that is judged on the test split.")
    parser.add_argument("results", type=Path, help="folder of the results, with runs/")
    parser.add_argument("--sweep", required=True, help="the sweep's name")
    parser.add_argument("--choice", type=Path, required=True, help="choice to write (JSON)")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
