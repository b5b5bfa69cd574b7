"""Write settings, curve, scores and verdict of a run to its trackers, in the tracked run that its training began.

    python scripts/score/report_to_trackers.py --scores scores/*.json --verdict verdict.json --curve curve.jsonl \
        --training training.json --splits train.jsonl validation.jsonl test.jsonl --base models/mistral/manifest.json \
        --tracked tracked.json --settings '{"run_key": "cards", "run": {...}}'

A tracker that fails is a warning, and `tracked.json` says why; texts of the data and answers are not sent.
"""

import sys
from pathlib import Path

from scripts.common.checksums import known_sha256
from scripts.common.cli import step_main, step_parser
from scripts.common.files import canonical_sha256, read_json, read_jsonl, write_json
from scripts.common.terminal import warn
from scripts.common.tracking import Tracking
from scripts.score.read_scores import read_variants


def values_of(scores: dict[str, dict]) -> dict[str, float]:
    """Return each metric of each variant with the ends of its interval, by names such as scores/q8_0/chrf_low."""
    return {
        f"scores/{variant}/{metric}{suffix}": result[key]
        for variant, facts in scores.items()
        for metric, result in facts["metrics"].items()
        for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
        if result and result[key] is not None
    }


def facts_of(verdict: dict, run: str) -> dict[str, str]:
    """Return the verdict, its reasons, each gate, and where the run's report is in the results."""
    facts = {key: verdict[key] for key in ("verdict", "reason", "advice", "shipped")}
    gates = {f"gates/{gate['name']}": f"{gate['outcome']}: {gate['reason']}" for gate in verdict["gates"]}
    return {**facts, **gates, "report": f"runs/{run}/report.html"}


def step(arguments) -> None:
    """Send everything to the child process that writes to the trackers, and write how that went."""
    run, base, output = arguments.settings["run"], read_json(arguments.base), arguments.tracked
    name, results = arguments.settings["run_key"], output.absolute().parents[2]
    trackers, answers = run["training"]["report_to"], {key: run[key] for key in run if key != "training"}
    training = read_json(arguments.training)["fingerprint"] if arguments.training else None
    settings = {
        **run,
        "base": {key: base.get(key) for key in ("name", "source", "id", "revision")},
        "dataset_sha256": {path.stem: known_sha256(path) for path in arguments.splits},
    }
    tracking = Tracking(results, name, trackers, settings, training=training, answers=canonical_sha256(answers))
    if arguments.curve:
        tracking.send(points=list(read_jsonl(arguments.curve)))
    facts = facts_of(read_json(arguments.verdict), name)
    text = "\n".join(f"- **{key}**: {value}" for key, value in facts.items())
    tracking.send(result={"scores": values_of(read_variants(arguments.scores)), "facts": facts, "text": text})
    tracked = tracking.finish()
    if failed := [tracker for tracker in trackers if tracked[tracker]["error"]]:
        again = f"to try again, delete {output} and run again"
        anew = f"to begin a new tracked run, delete {results / 'trackers' / name}.json too"
        warn(f"the run {name} is not complete in {', '.join(failed)}: {again}; {anew}")
    write_json(output, {"run": name, "trackers": tracked})


def parser():
    """Return the step's command line."""
    parser = step_parser("Write settings, curve, scores and verdict of a run to its trackers.")
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="scores of every variant (JSON)")
    parser.add_argument("--verdict", type=Path, required=True, help="the run's verdict (JSON)")
    parser.add_argument("--curve", type=Path, help="curve of the training (JSONL), if there was one")
    parser.add_argument("--training", type=Path, help="facts of the training (JSON), if there was one")
    parser.add_argument("--splits", type=Path, nargs="+", required=True, help="records of every split (JSONL)")
    parser.add_argument("--base", type=Path, required=True, help="manifest of the base model")
    parser.add_argument("--tracked", type=Path, required=True, help="file to write: the tracked runs (JSON)")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
