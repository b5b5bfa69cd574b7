"""Score the answers of one variant: metrics with 95 % intervals, and the errors.

    python scripts/score/score_answers.py answers/base.jsonl likelihood/base.jsonl --run football --variant base \
        --settings @settings.json --scores scores/base.json --errors errors/base.jsonl
"""

import json
import sys
from pathlib import Path

from scripts.common.cli import Progress, complete, run_step, step_parser
from scripts.common.files import write_jsonl, write_text
from scripts.score.answer_kind import AnswerKind, answer_kind
from scripts.score.bootstrap import LEVEL
from scripts.score.by_label import label_table
from scripts.score.entity_errors import entity_errors, error_counts
from scripts.score.entity_tables import class_table, confusion, untested_classes
from scripts.score.measure import add_metrics, score_set
from scripts.score.reference import read_reference
from scripts.score.scoring_input import ScoringInput, read_answers, read_likelihood
from scripts.score.similarity import signatures
from scripts.score.style import reference_facts
from scripts.score.worst import mismatches, worst_answers

SETTINGS = (
    "language", "metrics", "metrics_from", "generic_phrases", "assistant_phrases", "price_per_hour", "bootstrap",
    "seed",
)  # fmt: skip


def parser():
    """Return the step's arguments."""
    arguments = step_parser("Score the answers of one variant: metrics with 95 % intervals, and the errors.")
    arguments.add_argument("answers", type=Path, help="answers (JSONL)")
    arguments.add_argument("likelihood", type=Path, help="negative log likelihoods of the expected answers (JSONL)")
    arguments.add_argument("--reference", type=Path, help="training split (JSONL), the reference of the style")
    arguments.add_argument("--run", required=True, help="the run's name")
    arguments.add_argument(
        "--variant", required=True, help="variant that gave the answers: base, adapter, merged or a quant"
    )
    arguments.add_argument("--scores", type=Path, required=True, help="scores to write (JSON)")
    arguments.add_argument(
        "--errors",
        type=Path,
        required=True,
        help="errors to write (JSONL): wrong entities, mismatches or worst answers",
    )
    return arguments


def compact(scores: dict) -> str:
    """Return scores as indented JSON with each list of numbers on one line."""
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


def errors_of_set(kind: AnswerKind, prompt_set: str, data: ScoringInput, scores: dict) -> list[dict]:
    """Return the errors of the answers to a prompt set: wrong entities, mismatches, or the worst answers."""
    if kind == "entities":
        return entity_errors(prompt_set, data)
    return (mismatches if kind == "exact" else worst_answers)(prompt_set, data, scores)


def details(data: ScoringInput, scores: dict, errors: list[dict], resamples: int, seed: int) -> dict:
    """Return further scores of the test split: by label and, for entities, by class."""
    told: dict = {"by_label": label_table(data, scores["statistics"], resamples, seed)}
    entities = [row for row in data.entities if row]
    if entities:
        told["entities"] = {
            "classes": class_table(entities, resamples, seed),
            "untested": untested_classes(entities, data.reference.classes if data.reference else ()),
            "confusion": confusion(entities),
            "errors": error_counts(errors),
        }
    return told


def devices_of(sets: dict[str, list[dict]]) -> list[str]:
    """Return the names of the devices that generated the answers."""
    return sorted({row["device"] for answers in sets.values() for row in answers if "device" in row})


def step(arguments) -> None:
    """Read answers, measure them, and write scores and errors."""
    given = complete(arguments.settings, ("score", "language"))
    settings = complete(given["score"], SETTINGS)
    language = settings["language"] or given["language"]
    own = add_metrics(Path(settings["metrics_from"])) if settings["metrics_from"] else {}
    likelihood = read_likelihood(arguments.likelihood)
    sets = read_answers(arguments.answers)
    reference = read_reference(arguments.reference, language) if arguments.reference else None
    bar = Progress(f"scoring {arguments.variant}", len(sets))
    scores: dict = {
        "run": arguments.run,
        "variant": arguments.variant,
        "language": language,
        "devices": devices_of(sets),
        "asked": settings["metrics"],
        "bootstrap": {"resamples": settings["bootstrap"], "seed": settings["seed"], "level": LEVEL},
        "signatures": signatures(language),
        "reference": reference_facts(reference),
        "own_metrics": own,
    }
    errors, others = [], {}
    for name, answers in sets.items():
        known = likelihood if name == "test" else {}
        phrases, price = tuple(settings["generic_phrases"]), settings["price_per_hour"]
        spoken = tuple(settings["assistant_phrases"])
        data = ScoringInput(answers, language, phrases, known, price, spoken, reference)
        result = score_set(data, settings["metrics"], settings["bootstrap"], settings["seed"])
        kind = answer_kind(data, settings["metrics"])
        found = errors_of_set(kind, name, data, result)
        errors += found
        if name == "test":
            scores |= {"answer_kind": kind} | result
            scores |= details(data, result, found, settings["bootstrap"], settings["seed"])
        else:
            others[name] = result
        bar.advance()
    write_text(arguments.scores, compact({**scores, "prompt_sets": others}))
    write_jsonl(arguments.errors, errors)


def main(argv=None) -> int:
    """Run the step from the command line."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
