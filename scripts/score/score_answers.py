"""Score the answers of one variant: metrics with 95 % intervals, and the errors.

    python scripts/score/score_answers.py answers/base.jsonl likelihood/base.jsonl --test test.jsonl --run football \
        --variant base --settings @settings.json --scores scores/base.json --errors errors/base.jsonl
"""

import json
import sys
from pathlib import Path

from scripts.common.cli import Progress, step_main, step_parser
from scripts.common.files import atomic_path, write_jsonl
from scripts.common.records import images_of
from scripts.score.by_label import label_table
from scripts.score.columns import EXACT
from scripts.score.entity_errors import entity_errors, error_counts
from scripts.score.entity_tables import class_table, confusion, untested_classes
from scripts.score.interval_kinds import LEVEL
from scripts.score.measure import add_metrics, score_set
from scripts.score.people import votes_facts
from scripts.score.record_order import check_columns
from scripts.score.reference import read_reference
from scripts.score.scoring_input import ScoringInput, read_answers, read_likelihood, read_records
from scripts.score.similarity import signatures
from scripts.score.style import reference_facts
from scripts.score.votes import REMEDY, Votes, count_votes, read_votes
from scripts.score.worst import mismatches, worst_answers


def answer_kind(data: ScoringInput, asked: list[str] | None) -> str:
    """Return `entities` for records with spans, `exact` for questions with images, else `text`.

    `asked` are the run's metrics: a metric that compares letter by letter also means `exact`.
    """
    if any(data.entities):
        return "entities"
    has_images = any(images_of(row["messages"]) for row in data.answers)
    return "exact" if has_images or set(EXACT) & set(asked or ()) else "text"


def votes_of(arguments, prompt_set: str, answers: list[dict]) -> Votes | None:
    """Return people's votes on the answers to a prompt set; None if `score.votes` names no file."""
    settings = arguments.settings["score"]
    if settings["votes"] is None:
        return None
    rival = settings["rival"] if "/" in settings["rival"] else f"{arguments.run}/{settings['rival']}"
    # `score_validation` names the validation split as the set `test`.
    if prompt_set != "test" or (arguments.test and arguments.test.name == "validation.jsonl"):
        return Votes(f"{arguments.run}/{arguments.variant}", rival, "people judge the answers to the test split")
    if not arguments.votes:
        missing = f"no votes yet: {settings['votes']} does not exist; {REMEDY}"
        return Votes(f"{arguments.run}/{arguments.variant}", rival, missing)
    rivals = read_answers(arguments.rival)["test"] if arguments.rival else None
    names = (arguments.run, arguments.variant, rival)
    return count_votes(read_votes(arguments.votes), answers, *names, rivals, settings["model_votes"])


def write_scores(path: Path, scores: dict) -> None:
    """Write scores as JSON, one line for each key; of a large object no more than one value at a time is text."""
    with atomic_path(path) as beside, open(beside, "w", encoding="utf-8") as file:
        for number, (key, value) in enumerate(scores.items()):
            file.write(f"{',' if number else '{'}\n{json.dumps(key)}: ")
            if isinstance(value, dict):
                for place, (name, part) in enumerate(value.items()):
                    file.write(f"{', ' if place else '{'}{as_json(name)}: {as_json(part)}")
                file.write("}" if value else "{}")
            else:
                file.write(as_json(value))
        file.write("\n}\n")


def as_json(value) -> str:
    """Return a value as JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def step(arguments) -> None:
    """Read answers, measure them, and write scores and errors."""
    settings = arguments.settings["score"]
    language = settings["language"] or arguments.settings["language"]
    own = add_metrics(Path(settings["metrics_from"])) if settings["metrics_from"] else {}
    likelihood = read_likelihood(arguments.likelihood)
    sets = read_answers(arguments.answers)
    reference = read_reference(arguments.reference, language) if arguments.reference else None
    records = read_records(arguments.test) if arguments.test else {}
    check_columns(settings["order_by"], records)
    bar = Progress(f"scoring {arguments.variant}", len(sets))
    scores: dict = {
        "run": arguments.run,
        "variant": arguments.variant,
        "language": language,
        "devices": sorted({row["device"] for answers in sets.values() for row in answers if "device" in row}),
        "asked": settings["metrics"],
        "bootstrap": {"resamples": settings["bootstrap"], "seed": settings["seed"], "level": LEVEL},
        "signatures": signatures(language),
        "reference": reference_facts(reference),
        "own_metrics": own,
    }
    errors, others, resampling = [], {}, (settings["bootstrap"], settings["seed"])
    for name, answers in sets.items():
        data = ScoringInput(
            answers,
            language,
            tuple(settings["generic_phrases"]),
            likelihood if name == "test" else {},
            settings["price_per_hour"],
            tuple(settings["assistant_phrases"]),
            reference,
            records,
            tuple(settings["order_by"]),
            votes_of(arguments, name, answers),
        )
        result = score_set(data, settings["metrics"], *resampling)
        kind = answer_kind(data, settings["metrics"])
        if kind == "entities":
            found = entity_errors(data)
        else:
            found = (mismatches if kind == "exact" else worst_answers)(data, result)
        errors += [{"rank": rank, "prompt_set": name, **row} for rank, row in enumerate(found, 1)]
        if name == "test":
            scores |= {"answer_kind": kind} | result
            scores["people"] = votes_facts(data, settings["votes"], settings["model_votes"])
            scores["by_label"] = label_table(data, result["statistics"], *resampling)
            if any(entities := data.entities):
                scores["entities"] = {
                    "classes": class_table(entities, data.groups),
                    "untested": untested_classes(entities, reference.classes if reference else ()),
                    "confusion": confusion(entities),
                    "errors": error_counts(found),
                }
        else:
            others[name] = result
        bar.advance()
    write_scores(arguments.scores, {**scores, "prompt_sets": others})
    write_jsonl(arguments.errors, errors)


def parser():
    """Return the step's command line."""
    parser = step_parser("Score the answers of one variant: metrics with 95 % intervals, and the errors.")
    parser.add_argument("answers", type=Path, help="answers (JSONL)")
    parser.add_argument("likelihood", type=Path, help="negative log likelihoods of the expected answers (JSONL)")
    parser.add_argument("--test", type=Path, help="test split (JSONL), with the groups and the order of its records")
    parser.add_argument("--reference", type=Path, help="training split (JSONL), the reference of the style")
    parser.add_argument("--votes", type=Path, help="people's votes (JSONL), if there are some yet")
    parser.add_argument("--rival", type=Path, help="answers (JSONL) with which votes compared these")
    parser.add_argument("--run", required=True, help="the run's name")
    parser.add_argument("--variant", required=True, help="variant that gave the answers")
    parser.add_argument("--scores", type=Path, required=True, help="scores to write (JSON)")
    parser.add_argument("--errors", type=Path, required=True, help="wrong or worst answers to write (JSONL)")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
