"""Decide the verdict on a run, promote, hold or rollback, by gates on intervals.

    python scripts/score/decide_verdict.py scores/*.json --run football --base models/mistral/manifest.json \
        --settings '{"gates": {...}, "shipped": "q8_0", "dataset": "football", ...}' --verdict verdict.json

`--settings` holds gates, shipped, dataset, group_by, bootstrap and seed. The verdicts on a run are kept in
`verdicts.jsonl` beside the verdict, which no rule deletes.
"""

import sys
from pathlib import Path

from scripts.common.cli import step_main, step_parser
from scripts.common.files import read_json, write_json
from scripts.score.history import NAME, History
from scripts.score.read_scores import read_variants
from scripts.score.stand_in import is_stand_in
from scripts.score.verdict import verdict
from scripts.train.diverged import diverged_note


def step(arguments) -> None:
    """Judge every gate, write the verdict, and add it to the history of verdicts beside it."""
    settings, scores = arguments.settings, read_variants(arguments.scores)
    history = History(arguments.verdict.with_name(NAME), scores, settings["dataset"])
    choice = read_json(arguments.choice) if arguments.choice else None
    decided = verdict(
        arguments.run,
        settings["gates"],
        settings["shipped"],
        scores,
        settings["bootstrap"],
        settings["seed"],
        stand_in=is_stand_in(read_json(arguments.base)),
        diverged=diverged_note(read_json(arguments.training)) if arguments.training else None,
        chosen=choice and {"run": choice["chosen"], "metric": choice["metric"]},
        group_by=settings["group_by"],
        history=history,
    )
    history.add(decided)
    write_json(arguments.verdict, decided)


def parser():
    """Return the step's command line."""
    parser = step_parser("Decide the verdict on a run: promote, hold or rollback.")
    parser.add_argument("scores", type=Path, nargs="+", help="scores of every variant (JSON)")
    parser.add_argument("--run", required=True, help="the run's name")
    parser.add_argument("--base", type=Path, required=True, help="manifest of the base model")
    parser.add_argument("--training", type=Path, help="facts of the training (JSON), if there was one")
    parser.add_argument("--choice", type=Path, help="choice among the runs of its sweep (JSON), if it belongs to one")
    parser.add_argument("--verdict", type=Path, required=True, help="verdict to write (JSON)")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
