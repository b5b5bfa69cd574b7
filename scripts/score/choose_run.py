"""Choose the run of a sweep that is judged on the test split: the best one on the validation split.

    python scripts/score/choose_run.py results --sweep captions --choice results/sweeps/captions/choice.json \
        --settings '{"runs": {"captions-r16": {"variant": "q8_0", "trained_by": "captions-r16"}, ...}, "select": null}'

`runs` has the shipped variant of each run and the run that trained its model (null: none did), `select` the metric that
decides; null: the metric that ranks the leaderboard (see `deciding_metric`).
"""

import sys
from pathlib import Path

from scripts.common.checksums import known_sha256, note_input
from scripts.common.cli import step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_json
from scripts.score.columns import RANKED_BY, kind_of
from scripts.score.metrics import METRICS
from scripts.score.read_scores import read_scores
from scripts.train.diverged import diverged_note


def deciding_metric(sweep: str, scores: list[dict], select: str | None, diverged: list[str | None]) -> str:
    """Return the metric that decides: `select`, else a ranking metric of this kind of answers.

    It is the first that all runs have whose training did not diverge, else the first that any of them has. Raises
    UserError if no run has a value on the validation split.
    """
    wanted = (select,) if select else RANKED_BY[kind_of(scores)]
    sound = [found for found, note in zip(scores, diverged, strict=True) if not note] or scores
    for is_had_by, runs in ((all, sound), (any, sound), (any, scores)):
        for metric in wanted:
            if is_had_by(found["metrics"].get(metric) for found in runs):
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


def choice(sweep: str, scores: list[dict], select: str | None, diverged: list[str | None]) -> dict:
    """Return the choice from the scores of a sweep's runs on the validation split, in the configuration's order.

    `diverged` has a note for each run whose training diverged, which is chosen only if all did: it is rolled back.
    """
    metric = deciding_metric(sweep, scores, select, diverged)
    runs = [
        {
            "run": found["run"],
            "variant": found["variant"],
            **(found["metrics"].get(metric) or without_value(found, metric)),
            "diverged": note,
        }
        for found, note in zip(scores, diverged, strict=True)
    ]
    values = [row["value"] for row in runs]
    sound = [None if row["diverged"] else row["value"] for row in runs]
    place = best(sound if any(value is not None for value in sound) else values, metric)
    return {"sweep": sweep, "metric": metric, "chosen": runs[place]["run"], "runs": runs}


def without_value(scores: dict, metric: str) -> dict:
    """Return the columns of a run that has no value of the metric."""
    return {"value": None, "low": None, "high": None, "n": 0, "reason": scores["reasons"].get(metric, "not scored")}


def noted(path: Path) -> Path:
    """Return a path after recording it as an input: the command line names only the folder of results."""
    note_input(path, known_sha256(path))
    return path


def step(arguments) -> None:
    """Read the scores of all runs and the facts of their trainings, and write the choice."""
    scores, diverged, folder = [], [], arguments.results / "runs"
    for run, facts in arguments.settings["runs"].items():
        scores.append(read_scores(noted(folder / run / "validation" / "scores" / f"{facts['variant']}.json")))
        training = facts["trained_by"] and noted(folder / facts["trained_by"] / "training.json")
        diverged.append(diverged_note(read_json(training)) if training else None)
    write_json(arguments.choice, choice(arguments.sweep, scores, arguments.settings["select"], diverged))


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
