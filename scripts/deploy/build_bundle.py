"""Put together what is deployed: GGUF file, Modelfile, model card, examples, checksums, provenance.

    python scripts/deploy/build_bundle.py results/runs/football/gguf/q4_k_m.gguf --quant q4_k_m \\
        --parity parity.json --verdict verdict.json --scores scores/base.json scores/q4_k_m.json \\
        --base results/models/mistral/manifest.json --training training.json --test test.jsonl \\
        --raw data/football/records.json --folder results/runs/football/bundle --settings @settings.json
"""

import sys
from pathlib import Path

from scripts.common.cli import log, run_step, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_folder, link_or_copy, read_json, read_jsonl, sha256_of, write_json, write_text
from scripts.common.gguf_header import read_header
from scripts.common.records import text_of
from scripts.deploy.crate import Run, write_crate
from scripts.deploy.fill_examples import filled, sampling_of_llama_cpp, sampling_of_transformers
from scripts.deploy.model_card import model_card
from scripts.deploy.modelfile import modelfile
from scripts.deploy.provenance import FILE as PROVENANCE
from scripts.deploy.provenance import last_change, provenance, read_argument
from scripts.deploy.served_strategy import asked_systems, context_of, lacking_system, served_strategy
from scripts.deploy.vision_bundle import FILE as MMPROJ
from scripts.deploy.vision_bundle import vision_parts
from scripts.gguf.naming import ModelName

PROJECT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = PROJECT / "scripts" / "deploy" / "examples"
SUMS = "SHA256SUMS"


def bundle_name(header: dict, quant: str, path: Path) -> str:
    """Return the file's name by the GGUF specification, from its own metadata."""
    keys = ("basename", "size_label", "finetune", "version")
    missing = [key for key in keys if f"general.{key}" not in header]
    if missing:
        raise UserError(f"has no general.{missing[0]}", path, remedy="convert the model again")
    return ModelName(*(header[f"general.{key}"] for key in keys)).file_name(quant)


def first_question(test: Path) -> tuple[str, str | None]:
    """Return the first question of the test split and its record's label, for the examples."""
    for row in read_jsonl(test):
        for message in row["messages"]:
            if message["role"] == "user":
                return text_of(message["content"]), row.get("label")
    raise UserError("has no user message", test)


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS, as `sha256sum -c` reads it, over all files of a folder and of those in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    write_text(folder / SUMS, "".join(lines), part=True)


def build_bundle(arguments) -> None:
    """Make the bundle's folder, SHA256SUMS last."""
    settings, quant = arguments.settings, arguments.quant
    run, parity, base = settings["run"], read_json(arguments.parity), read_json(arguments.base)
    verdict, scores = read_json(arguments.verdict), [read_json(path) for path in arguments.scores]
    header = read_header(arguments.gguf).values
    name = bundle_name(header, quant, arguments.gguf)
    served, (question, label) = served_strategy(run, arguments.train), first_question(arguments.test)
    deploy, asked = {**run["deploy"], "system": served.system}, asked_systems(run, arguments.test)
    lacking = lacking_system(served.system, asked)
    if lacking and parity["shape"]["system"] != "none":
        log.warning("%s: set deploy.system", lacking)
    made = {"gguf": arguments.gguf, "parity": arguments.parity, "verdict": arguments.verdict}
    made |= {f"scores/{path.stem}": path for path in arguments.scores}
    made |= {"mmproj": arguments.mmproj} if arguments.mmproj else {}
    made |= {"images": arguments.images} if arguments.images else {}
    made |= {"redaction": arguments.redaction} if arguments.redaction else {}
    eyes = vision_parts(arguments.mmproj, run, arguments.test, served.examples) if arguments.mmproj else None
    context = deploy["parameters"]["num_ctx"] or context_of(served, run["tokens"]["max_length"], header)
    common = {"SYSTEM": served.system, "WORDING": served.user, "QUESTION": question, "LABEL": label}
    common |= eyes.values() if eyes else {"EXAMPLES": served.examples}
    with atomic_folder(arguments.folder) as folder:
        link_or_copy(arguments.gguf, folder / name)
        if eyes:
            link_or_copy(eyes.mmproj, folder / MMPROJ)
        tower = MMPROJ if eyes else None
        write_text(folder / "Modelfile", modelfile(name, parity, deploy, context, served.examples, tower))
        shown = {**settings, "run": {**run, "deploy": deploy}}
        card = model_card(shown, header, name, base, scores, verdict, parity, quant, asked, eyes)
        write_text(folder / "README.md", card)
        sampling = sampling_of_llama_cpp(deploy["parameters"])
        values = {**common, "MODEL": name, "CONTEXT": context, "SAMPLING": sampling}
        write_example(folder, "example_llama_cpp", values | (eyes.llama_values() if eyes else {}), eyes is not None)
        values = {**common, "SAMPLING": sampling_of_transformers(deploy["parameters"])}
        write_example(folder, "example_transformers", values, eyes is not None)
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
        write_json(folder / PROVENANCE, record)
        license_id = str(header.get("general.license", "unknown"))
        write_crate(folder, PROJECT, Run(record, name, license_id, last_change(arguments.verdict)))
        write_sums(folder)


def write_example(folder: Path, name: str, values: dict, with_image: bool = False) -> None:
    """Write an example program, that of a text or that of an image, with the bundle's values."""
    source = EXAMPLES / (f"{name}_image.py" if with_image else f"{name}.py")
    write_text(folder / f"{name}.py", filled(source.read_text(encoding="utf-8"), values))


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("gguf", type=Path, help="GGUF file to ship")
    result.add_argument("--quant", required=True, help="its quant")
    result.add_argument("--mmproj", type=Path, help="GGUF file of a vision run's tower, to ship with it")
    result.add_argument("--images", type=Path, help="manifest of the dataset's images, whose hashes are in it")
    result.add_argument("--parity", type=Path, required=True, help="parity report of the run")
    result.add_argument("--verdict", type=Path, required=True, help="verdict on the run")
    result.add_argument("--scores", type=Path, nargs="*", default=[], help="scores of the run's variants")
    result.add_argument("--base", type=Path, required=True, help="manifest of the base model")
    result.add_argument("--training", type=Path, required=True, help="facts of the training")
    result.add_argument("--test", type=Path, required=True, help="records of the test split")
    result.add_argument("--train", type=Path, help="records of the training split, for a strategy that shows examples")
    result.add_argument("--raw", type=Path, nargs="*", default=[], help="raw files of the dataset")
    read = "what the run reads beside its raw data, by its key in the configuration"
    result.add_argument("--read", type=read_argument, action="append", default=[], metavar="KEY=PATH", help=read)
    result.add_argument("--redaction", type=Path, help="facts on the redaction of the dataset, whose hash is kept")
    result.add_argument("--benchmarks", type=Path, help="folder of the benchmark files, for the times of the steps")
    result.add_argument("--folder", type=Path, required=True, help="bundle to make")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(build_bundle, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
