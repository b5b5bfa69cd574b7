"""Put together a token classifier as it is deployed: model, model card, example, checksums, provenance.

    python scripts/deploy/build_classifier_bundle.py results/runs/pii/merged/manifest.json \\
        --verdict verdict.json --scores scores/merged.json --base results/models/mistral/manifest.json \\
        --training training.json --test test.jsonl --raw data/pii/records.jsonl \\
        --folder results/runs/pii/bundle --settings @settings.json

The bundle's folder `model` has the files of the merged one, linked where the file system can do that, so that large
weights are not on the disk twice.
"""

import sys
from pathlib import Path

from scripts.common.cli import run_step, step_parser
from scripts.common.errors import UserError
from scripts.common.files import (
    MANIFEST,
    atomic_folder,
    check_manifest,
    link_or_copy,
    read_json,
    read_jsonl,
    write_json,
    write_text,
)
from scripts.common.records import text_of
from scripts.deploy.build_bundle import EXAMPLES, PROJECT, write_sums
from scripts.deploy.classifier_card import classifier_card
from scripts.deploy.crate import Run, write_crate
from scripts.deploy.fill_examples import filled
from scripts.deploy.provenance import FILE as PROVENANCE
from scripts.deploy.provenance import last_change, provenance, read_argument

EXAMPLE = "example_classify.py"
HEAD_CONFIG = "head_config.json"


def first_text(test: Path) -> str:
    """Return the first text of the test split that has an entity, else the first one, for the example."""
    texts = [
        (bool(row["spans"]), text_of(message["content"]))
        for row in read_jsonl(test)
        for message in row["messages"]
        if message["role"] == "user"
    ]
    if not texts:
        raise UserError("has no text", test)
    return next((text for has_entity, text in texts if has_entity), texts[0][1])


def head_facts(manifest: Path) -> tuple[dict, dict]:
    """Return (facts of the merged folder, its classifier's); UserError for a folder that is no token classifier."""
    facts = check_manifest(manifest)
    if HEAD_CONFIG not in facts["files"]:
        raise UserError("is no token classifier", manifest.parent, remedy="use the merged folder of such a run")
    return facts, read_json(manifest.parent / HEAD_CONFIG)


def link_model(manifest: Path, files: list[str], target: Path) -> None:
    """Put the merged folder's files into the bundle."""
    for name in [*files, MANIFEST]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(manifest.parent / name, target / name)


def build_classifier_bundle(arguments) -> None:
    """Make the bundle's folder, SHA256SUMS last."""
    settings, run = arguments.settings, arguments.settings["run"]
    base, verdict = read_json(arguments.base), read_json(arguments.verdict)
    scores = [read_json(path) for path in arguments.scores]
    facts, head = head_facts(arguments.model)
    classes = sorted({tag.partition("-")[2] for tag in head["labels"]} - {""})
    made = {"merged": arguments.model, "verdict": arguments.verdict}
    made |= {f"scores/{path.stem}": path for path in arguments.scores}
    made |= {"redaction": arguments.redaction} if arguments.redaction else {}
    values = {
        "MAX_LENGTH": run["tokens"]["max_length"],
        "OVERLAP": run["tokens"]["window_overlap"],
        "PRECISION": run["training"]["precision"],
        "FOUR_BIT": head["load_in_4bit"],
        "TRUST_REMOTE_CODE": facts.get("trust_remote_code", False),
        "TEXT": first_text(arguments.test),
    }
    record = provenance(
        settings,
        PROJECT,
        arguments.raw,
        arguments.base,
        arguments.training,
        scores,
        made,
        dict(arguments.read),
        arguments.benchmarks,
    )
    record.pop("converter")  # nothing was converted
    with atomic_folder(arguments.folder) as folder:
        link_model(arguments.model, sorted(facts["files"]), folder / "model")
        card = classifier_card(settings, classes, base, scores, verdict, settings["model_key"])
        write_text(folder / "README.md", card)
        write_text(folder / EXAMPLE, filled((EXAMPLES / EXAMPLE).read_text(encoding="utf-8"), values))
        write_json(folder / PROVENANCE, record)
        license_id = str(settings["model"]["license"] or base.get("license") or "unknown")
        write_crate(folder, PROJECT, Run(record, f"model/{MANIFEST}", license_id, last_change(arguments.verdict)))
        write_sums(folder)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("model", type=Path, help="manifest.json of the merged token classifier")
    result.add_argument("--verdict", type=Path, required=True, help="verdict on the run")
    result.add_argument("--scores", type=Path, nargs="*", default=[], help="scores of the run's variants")
    result.add_argument("--base", type=Path, required=True, help="manifest of the base model")
    result.add_argument("--training", type=Path, required=True, help="facts of the training")
    result.add_argument("--test", type=Path, required=True, help="records of the test split")
    result.add_argument("--raw", type=Path, nargs="*", default=[], help="raw files of the dataset")
    read = "what the run reads beside its raw data, by its key in the configuration"
    result.add_argument("--read", type=read_argument, action="append", default=[], metavar="KEY=PATH", help=read)
    result.add_argument("--redaction", type=Path, help="facts on the redaction of the dataset, whose hash is kept")
    result.add_argument("--benchmarks", type=Path, help="folder of the benchmark files, for the times of the steps")
    result.add_argument("--folder", type=Path, required=True, help="bundle to make")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(build_classifier_bundle, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
