"""Score the answers of one variant: metrics with 95 % intervals, and the worst answers.

    python scripts/score/score_answers.py answers/base.jsonl likelihood/base.jsonl --run football --variant base \
        --settings @settings.json --scores scores/base.json --errors errors/base.jsonl
"""

import json
import sys
from pathlib import Path

from scripts.common.cli import Progress, run_step, step_parser
from scripts.common.files import write_jsonl, write_text
from scripts.common.step_settings import complete
from scripts.score.bootstrap import LEVEL
from scripts.score.material import Material, read_answers, read_likelihood
from scripts.score.measure import score_set
from scripts.score.similarity import signatures
from scripts.score.worst import worst_answers

SETTINGS = ("language", "metrics", "generic_phrases", "bootstrap", "seed")


def parser():
    """Return the step's arguments."""
    arguments = step_parser("Score the answers of one variant: metrics with 95 % intervals, and the worst answers.")
    arguments.add_argument("answers", type=Path, help="answers (JSONL)")
    arguments.add_argument("likelihood", type=Path, help="negative log likelihoods of the expected answers (JSONL)")
    arguments.add_argument("--run", required=True, help="the run's name")
    arguments.add_argument("--variant", required=True, help="whose answers these are: base, adapter, merged or a quant")
    arguments.add_argument("--scores", type=Path, required=True, help="scores to write (JSON)")
    arguments.add_argument("--errors", type=Path, required=True, help="worst answers to write (JSONL)")
    return arguments


def compact(scores: dict) -> str:
    """Return scores as JSON: readable, with each list of numbers on one line."""
    lists = {}

    def folded(value, depth=0):
        if isinstance(value, dict):
            return {key: folded(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            key = f"\u0000{len(lists)}\u0000"
            lists[json.dumps(key)] = json.dumps(value, ensure_ascii=False, allow_nan=False)
            return key
        return value

    text = json.dumps(folded(scores), ensure_ascii=False, indent=2, allow_nan=False)
    for key, value in lists.items():
        text = text.replace(key, value, 1)
    return text + "\n"


def step(arguments) -> None:
    """Read answers, measure them, and write scores and worst answers."""
    given = complete(arguments.settings, ("score", "language"))
    settings = complete(given["score"], SETTINGS)
    language = settings["language"] or given["language"]
    likelihood = read_likelihood(arguments.likelihood)
    sets = read_answers(arguments.answers)
    bar = Progress(f"scoring {arguments.variant}", len(sets))
    scores: dict = {
        "run": arguments.run,
        "variant": arguments.variant,
        "language": language,
        "bootstrap": {"resamples": settings["bootstrap"], "seed": settings["seed"], "level": LEVEL},
        "signatures": signatures(language),
    }
    worst, others = [], {}
    for name, answers in sets.items():
        own = likelihood if name == "test" else {}
        material = Material(answers, language, tuple(settings["generic_phrases"]), own)
        result = score_set(material, settings["metrics"], settings["bootstrap"], settings["seed"])
        worst += worst_answers(name, material, result)
        if name == "test":
            scores |= result
        else:
            others[name] = result
        bar.advance()
    write_text(arguments.scores, compact({**scores, "prompt_sets": others}))
    write_jsonl(arguments.errors, worst)


def main(argv=None) -> int:
    """Run the step from the command line."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
