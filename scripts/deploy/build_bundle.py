"""Build the bundle for deployment: the model, its card, examples, checksums, provenance.

    python scripts/deploy/build_bundle.py gguf/q4_k_m.gguf --parity parity.json --verdict verdict.json \\
        --base manifest.json --training training.json --test test.jsonl --folder bundle --settings @settings.json

The model is a GGUF file, or the manifest of a merged token classifier; its files are linked, not copied, if possible.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from scripts.common.checksums import intact
from scripts.common.cli import log, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import (
    MANIFEST,
    atomic_folder,
    check_manifest,
    link_or_copy,
    read_json,
    read_jsonl,
    sha256_of,
    write_json,
    write_text,
)
from scripts.common.records import images_of, normalised, text_of
from scripts.deploy.crate import write_crate
from scripts.deploy.model_card import model_card
from scripts.deploy.modelfile import modelfile
from scripts.deploy.modelfile_text import with_plain_spaces
from scripts.deploy.provenance import FILE as PROVENANCE
from scripts.deploy.provenance import provenance
from scripts.deploy.served_strategy import asked_systems, context_of, lacking_system, served_strategy
from scripts.deploy.serving_files import filled, write_serving
from scripts.deploy.sums import SUMS
from scripts.gguf.mmproj import image_limits
from scripts.gguf.naming import ModelName
from scripts.gguf.reader import read_gguf
from scripts.gguf.tensor_types import quant_line, types_of_quant
from scripts.score.read_scores import read_scores

PROJECT = Path(__file__).resolve().parent.parent.parent
MMPROJ, HEAD_CONFIG = "mmproj.gguf", "head_config.json"
SAMPLING = ("temperature", "top_p", "top_k", "min_p")


def questions(test: Path) -> list[tuple[dict, str | list]]:
    """Return each question of the test split: its record and its content."""
    rows = read_jsonl(test)
    return [(row, message["content"]) for row in rows for message in row["messages"] if message["role"] == "user"]


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS, in the format of `sha256sum -c`, over all files below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    write_text(folder / SUMS, "".join(lines), part=True)


def write_example(folder: Path, name: str, values: dict, source: str | None = None) -> None:
    """Write an example program whose constants (`NAME = ...`, one line each) have the bundle's values.

    `source` is its path in scripts/deploy/examples, without the suffix, if its name is another.
    """
    program = (PROJECT / "scripts" / "deploy" / "examples" / f"{source or name}.py").read_text(encoding="utf-8")
    write_text(folder / f"{name}.py", filled(program, {f"{key} = ": repr(value) for key, value in values.items()}))


def sampling_of_transformers(parameters: dict) -> dict:
    """Return the sampling parameters as `generate` names them; temperature 0 is greedy."""
    penalty = {"repetition_penalty": parameters["repeat_penalty"]}
    if parameters["temperature"] == 0:
        return {"do_sample": False, **penalty}
    return {"do_sample": True, **{name: parameters[name] for name in SAMPLING}, **penalty}


def vision_limits(mmproj: Path, run: dict, test: Path, examples: list[dict]) -> dict:
    """Return longest edge and cell in pixels, most tokens of an image, and whether images come before the text."""
    if images_of(examples):
        remedy = "choose a strategy without 'shots', or of text"
        raise UserError("the chosen strategy shows images as examples, and a bundle ships none", remedy=remedy)
    edge, patch, merge = image_limits(mmproj, run["vision"]["longest_edge"])
    seen = [content for _, content in questions(test) if images_of([{"content": content}])]
    first = not seen or seen[0][0]["type"] == "image"
    cell = patch * merge
    return {"longest_edge": edge, "cell": cell, "most_tokens": (-(-edge // cell)) ** 2, "image_first": first}


def gguf_files(arguments, folder: Path, base: dict, scores: list[dict], verdict: dict) -> tuple[str, str]:
    """Write the files of a generative model; return the name of its GGUF file and its licence."""
    settings, parity, quant = arguments.settings, read_json(arguments.parity), arguments.model.stem
    run, file = settings["run"], read_gguf(arguments.model)
    header, keys = file.values, ("basename", "size_label", "finetune", "version")
    name = ModelName(*(header[f"general.{key}"] for key in keys)).file_name(quant)
    served, asked = served_strategy(run, arguments.train), asked_systems(run, arguments.test)
    deploy, parameters = {**run["deploy"], "system": served.system}, run["deploy"]["parameters"]
    lacking = lacking_system(served.system, asked)
    if lacking and parity["shape"]["system"] != "none":
        log.warning("%s: set deploy.system", lacking)
    record, question = questions(arguments.test)[0]
    values = {"SYSTEM": served.system, "WORDING": served.user, "QUESTION": text_of(question)}
    values["LABEL"] = record.get("label")
    vision, kind, of_llama = None, "", {}
    if arguments.mmproj:
        vision, kind = vision_limits(arguments.mmproj, run, arguments.test, served.examples), "_image"
        values |= {"LONGEST_EDGE": vision["longest_edge"], "IMAGE_FIRST": vision["image_first"]}
        of_llama = {"MMPROJ": MMPROJ, "CELL": vision["cell"]}
        link_or_copy(arguments.mmproj, folder / MMPROJ)
    else:
        values |= {"EXAMPLES": served.examples}
    link_or_copy(arguments.model, folder / name)
    length = parameters["num_ctx"] or context_of(served, run["tokens"]["max_length"], header)
    tower = MMPROJ if vision else None
    write_text(folder / "Modelfile", modelfile(name, parity, deploy, length, served.examples, tower))
    sampling = {key: parameters[key] for key in (*SAMPLING, "repeat_penalty")}
    of_llama |= {"MODEL": name, "CONTEXT": length, "SAMPLING": sampling}
    write_example(folder, "example_llama_cpp", values | of_llama, f"example_llama_cpp{kind}")
    values["SAMPLING"] = sampling_of_transformers(parameters)
    write_example(folder, "example_transformers", values, f"example_transformers{kind}")
    stem = f"{name.split('-')[0]}-{header['general.finetune']}".lower()
    watched = {"LANGUAGE": run["score"]["language"] or settings["dataset"]["language"]}
    watched["GENERIC_PHRASES"] = tuple(run["score"]["generic_phrases"])
    write_example(folder, "quality_monitor", watched, "../quality_monitor")
    write_serving(folder, stem, name, length, sampling, tower, vision and vision["most_tokens"])
    system, license_id = served.system or "", str(header.get("general.license", "unknown"))
    card = model_card(
        settings,
        base,
        header.get("general.base_model.0.name", settings["model_key"]),
        scores,
        verdict,
        title=f"{header['general.name']} ({header['general.version']})",
        license=license_id,
        shipped=quant,
        header=header,
        file_name=name,
        stem=stem,
        opening=[*([{"role": "system", "content": system}] if system else []), *served.examples],
        types=quant_line(types_of_quant(file, quant)),
        parity=parity,
        vision=vision,
        mmproj=MMPROJ,
        lacking=lacking,
        is_as_scored=not set(asked) - {normalised(system)},
        has_no_break_spaces=with_plain_spaces(system) != system,
    )
    write_text(folder / "README.md", card)
    return name, license_id


def classifier_files(arguments, folder: Path, base: dict, scores: list[dict], verdict: dict) -> tuple[str, str]:
    """Write the files of a token classifier; return the name of its manifest and its licence."""
    settings, facts, merged = arguments.settings, check_manifest(arguments.model), arguments.model.parent
    run, head = settings["run"], read_json(merged / HEAD_CONFIG)
    for name in [*sorted(facts["files"]), MANIFEST]:
        (folder / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(merged / name, folder / "model" / name)
    asked = questions(arguments.test)
    values = {
        "MAX_LENGTH": run["tokens"]["max_length"],
        "OVERLAP": run["tokens"]["window_overlap"],
        "PRECISION": run["training"]["precision"],
        "FOUR_BIT": head["load_in_4bit"],
        "TRUST_REMOTE_CODE": facts.get("trust_remote_code", False),
        "TEXT": text_of(next((content for row, content in asked if row["spans"]), asked[0][1])),
    }
    write_example(folder, "example_classify", values)
    license_id = str(settings["model"]["license"] or base.get("license") or "unknown")
    card = model_card(
        settings,
        base,
        settings["model_key"],
        [found for found in scores if found["variant"] == verdict["shipped"]],
        verdict,
        title=settings["run_key"],
        license=license_id,
        shipped=verdict["shipped"],
        head=head,
        classes=sorted({tag.partition("-")[2] for tag in head["labels"]} - {""}),
    )
    write_text(folder / "README.md", card)
    return f"model/{MANIFEST}", license_id


def build_bundle(arguments) -> None:
    """Write the bundle's folder, SHA256SUMS last."""
    is_gguf, scores = arguments.model.suffix == ".gguf", [read_scores(path) for path in arguments.scores]
    made = {"gguf" if is_gguf else "merged": arguments.model}
    made |= {key: getattr(arguments, key) for key in ("parity", "verdict", "mmproj", "images", "redaction")}
    made = {name: path for name, path in made.items() if path}
    made |= {f"scores/{path.stem}": path for path in arguments.scores}
    read = (*made.values(), arguments.base, arguments.training, arguments.test, arguments.train)
    for path in filter(None, read):
        intact(path)  # report a changed file before the results made from it
    if not is_gguf:
        check_manifest(arguments.model)
    record = provenance(arguments, PROJECT, scores, made)
    if not is_gguf:
        record.pop("converter")  # nothing was converted
    base, verdict = read_json(arguments.base), read_json(arguments.verdict)
    ended = datetime.fromtimestamp(int(arguments.verdict.stat().st_mtime), UTC).isoformat()
    with atomic_folder(arguments.folder) as folder:
        write_own = gguf_files if is_gguf else classifier_files
        main_file, license_id = write_own(arguments, folder, base, scores, verdict)
        write_json(folder / PROVENANCE, record)
        write_crate(folder, PROJECT, record, main_file, license_id, ended)
        write_sums(folder)


def parser():
    """Return the step's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="GGUF file to ship, or manifest.json of a merged token classifier")
    parser.add_argument("--mmproj", type=Path, help="GGUF file of a vision run's tower, to ship with it")
    parser.add_argument("--images", type=Path, help="manifest with the hashes of the dataset's images")
    parser.add_argument("--parity", type=Path, help="parity report of the run, for a GGUF file")
    parser.add_argument("--verdict", type=Path, required=True, help="verdict on the run")
    parser.add_argument("--scores", type=Path, nargs="*", default=[], help="scores of the run's variants")
    parser.add_argument("--base", type=Path, required=True, help="manifest of the base model")
    parser.add_argument("--training", type=Path, required=True, help="facts of the training")
    parser.add_argument("--test", type=Path, required=True, help="records of the test split")
    parser.add_argument("--train", type=Path, help="records of the training split, for a strategy that shows examples")
    parser.add_argument("--raw", type=Path, nargs="*", default=[], help="raw files of the dataset")
    parser.add_argument("--redaction", type=Path, help="facts on the dataset's redaction; provenance keeps their hash")
    parser.add_argument("--configfile", nargs="*", default=[], help="names of the configuration's files, to record")
    parser.add_argument("--benchmarks", type=Path, help="folder of the benchmark files, for the times of the steps")
    parser.add_argument("--folder", type=Path, required=True, help="bundle to make")
    return parser


main = step_main(build_bundle, parser)

if __name__ == "__main__":
    sys.exit(main())
