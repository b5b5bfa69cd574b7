"""Hold a provenance record against what it was made from, as far as that is there."""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.common.errors import UserError
from scripts.common.files import canonical_sha256, sha256_of
from scripts.deploy.code_state import code_files
from scripts.deploy.findings import Findings, part, read_foreign_json
from scripts.deploy.provenance import FILE_KEYS, converter_facts, name_in_config, without_places
from scripts.deploy.read_files import read_facts, read_paths

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
DEFAULT_CONFIG = Path("config/config.yaml")


def verify_inputs(record: dict, bundle: Path, project: Path, configfiles: list[Path], findings: Findings) -> None:
    """Compare data, further files, configuration, code, locks, base model, tokenizer and results with a record.

    `project` is the workflow's folder. Raises UserError for a record that is none.
    """
    config = read_config(record, project, configfiles)
    verify_data(record, project, config, findings)
    verify_files_read(record, project, config, findings)
    verify_config(record, config, findings)
    verify_code(record, project, findings)
    results = results_of(bundle, part(record, "run", kind=str))
    verify_base(record, results, findings)
    verify_results(record, results, findings)


def safe(name: Any) -> str:
    """Return a name of the configuration that a path is made of; raises UserError for one that leads elsewhere."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"provenance.json: '{str(name)[:40]!a}' is no name of a run, model or dataset")
    return name


def results_of(bundle: Path, run: str) -> Path | None:
    """Return the folder of the results that a bundle lies in, or None for a bundle that was taken elsewhere."""
    *_, runs, name, last = ("", "", "", *bundle.resolve().parts)
    return bundle.resolve().parents[2] if (runs, name, last) == ("runs", run, "bundle") else None


def read_config(record: dict, project: Path, configfiles: list[Path]):
    """Return the checked configuration: that of the files, laid over each other as Snakemake does, or the demo's.

    None where there is none that has the run. Files that were named and are faulty are an error.
    """
    if not configfiles and not (project / DEFAULT_CONFIG).is_file():
        return None
    try:
        import yaml

        from scripts.common.config.expand import merged
        from scripts.common.config.load import load_config
        from scripts.common.config_files import first_fault
    except ImportError:
        return None
    if fault := first_fault(configfiles or [project / DEFAULT_CONFIG]):
        raise UserError(fault)
    raw: dict = {}
    for path in configfiles or [project / DEFAULT_CONFIG]:
        raw = merged(raw, yaml.safe_load(path.read_text(encoding="utf-8")))
    try:
        config = load_config(raw)
    except UserError:
        if configfiles:
            raise
        return None
    run = part(record, "run", kind=str)
    if run in config.runs:
        return config
    if configfiles:
        raise UserError(f"has no run '{safe(run)}'", configfiles[-1], remedy="name the files that it was made with")
    return None


def verify_data(record: dict, project: Path, config, findings: Findings) -> None:
    """Compare the raw files, which lie where the configuration says, else under working directory or workflow."""
    data = part(record, "data")
    if "hub" in data:
        findings.not_here(f"data: {data.get('name')}", "on a hub, pinned by its revision")
        return
    known = configured_files(config, data.get("name"), project)
    for file in part(record, "data", "files", kind=list):
        name, recorded = part(file, "name", kind=str), part(file, "sha256", kind=str)
        findings.compare_file(f"data: {name}", recorded, known.get(name) or beside(name, project))


def beside(name: str, project: Path) -> Path | None:
    """Return the file or folder of a name that a record gives, in the working directory or in the workflow's folder.

    Raises UserError for a name that leads out of them.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"provenance.json: '{name[:60]!a}' leads elsewhere")
    return next((root / name for root in (Path(), project) if (root / name).exists()), None)


def verify_files_read(record: dict, project: Path, config, findings: Findings) -> None:
    """Compare what the run read beside its raw data: where the configuration says, else where raw files are."""
    recorded, found = part(record, "files"), {}
    if config is not None:
        from scripts.common.config.sections import sections_of

        found = read_paths(sections_of(config, record["run"]))
    with_code = part(record, "config", "sections", "model").get("trust_remote_code") is True
    for key in recorded:
        name, digest = part(recorded, key, "name", kind=str), part(recorded, key, "sha256", kind=str)
        places = [*(root / found[key] for root in (Path(), project) if key in found), beside(name, project)]
        path = next((place for place in places if place and (place.is_file() or place.is_dir())), None)
        if path is None:
            findings.not_here(f"{key}: {name}")
        else:
            findings.compare(f"{key}: {name}", digest, read_facts(key, path, with_code)["sha256"])


def configured_files(config, name: Any, project: Path) -> dict[str, Path]:
    """Return the raw files that the configuration names for a dataset, by the names that a record gives them."""
    if config is None or name not in config.datasets:
        return {}
    from scripts.common.config.paths import files_at

    patterns = [pattern for key in FILE_KEYS for pattern in getattr(config.datasets[name], key) or []]
    paths = [Path(path) for pattern in patterns for path in files_at(pattern, (os.curdir, project))]
    return {name_in_config(path, patterns): path for path in paths}


def verify_config(record: dict, config, findings: Findings) -> None:
    """Compare each setting of the run, its model, its dataset, its gates and the project."""
    if config is None:
        findings.not_here("config", "not compared: name the run's configuration with --configfile")
        return
    from scripts.common.config.sections import sections_of
    from scripts.common.config.variants import makers

    findings.compare("trained_as", part(record, "trained_as", kind=str), makers(config.runs)[record["run"]])
    recorded = dict(leaves(part(record, "config", "sections")))
    found = dict(leaves(without_places(sections_of(config, record["run"]))))
    for key in sorted(recorded.keys() | found.keys()):
        findings.compare(f"config: {key}", recorded.get(key), found.get(key))


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of nested mappings with its dotted key."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{place}.{key}" if place else str(key))
    else:
        yield place, value


def verify_code(record: dict, project: Path, findings: Findings) -> None:
    """Compare each file of the workflow's code, the locks and the pinned converter."""
    recorded, found = part(record, "code", "files"), code_files(project)
    for name in sorted(recorded.keys() | found.keys()):
        findings.compare(f"code: {name}", recorded.get(name), found.get(name))
    for name, digest in part(record, "locks").items():
        lock = project / "envs" / (name if NAME.fullmatch(name) else "")
        findings.compare_file(f"lock: {name}", digest, lock)
    if "converter" in record:
        findings.compare("converter", record["converter"], converter_facts(project))


def verify_base(record: dict, results: Path | None, findings: Findings) -> None:
    """Compare the base model's manifest, each of its files, and its tokenizer."""
    model = safe(part(record, "base_model", "name", kind=str))
    recorded, tokenizer = part(record, "base_model", "manifest_sha256", kind=str), part(record, "tokenizer", "files")
    manifest = results and results / "models" / model / "manifest.json"
    findings.compare_file(f"base model: {model}/manifest.json", recorded, manifest)
    if manifest and manifest.is_file():
        for name, facts in read_foreign_json(manifest)["files"].items():
            path = manifest.parent / name
            found = sha256_of(path) if path.is_file() else None
            findings.compare(f"base model: {model}/{name}", facts["sha256"], found)
    for name, digest in tokenizer.items():
        if not NAME.fullmatch(name):
            raise UserError(f"provenance.json: '{name[:40]!a}' is no file of a tokenizer")
        findings.compare_file(f"tokenizer: {name}", digest, manifest and manifest.parent / name)


def verify_results(record: dict, results: Path | None, findings: Findings) -> None:
    """Compare the files of the run that the bundle rests on, and the facts of its training."""
    places = places_of(record)
    for name, digest in part(record, "made_from").items():
        place = places.get(name.partition("/")[0])
        path = results / place.replace("{}", safe(name.partition("/")[2] or "x")) if results and place else None
        findings.compare_file(f"made from: {name}", digest, path)
    training = results and results / "runs" / safe(part(record, "trained_as", kind=str)) / "training.json"
    if training and training.is_file():
        findings.compare(
            "training.json", canonical_sha256(record.get("training")), canonical_sha256(read_foreign_json(training))
        )
    else:
        findings.not_here("training.json")


def places_of(record: dict) -> dict[str, str]:
    """Return where in the results the files lie that a bundle rests on, by their names in the record."""
    run, maker = safe(part(record, "run", kind=str)), safe(part(record, "trained_as", kind=str))
    dataset, settings = safe(part(record, "data", "name", kind=str)), part(record, "config", "sections", "run")
    quants = part(settings, "quants", kind=list)
    quant = part(settings, "deploy").get("quant") or (quants or ["bf16"])[-1]
    return {
        "gguf": f"runs/{maker}/gguf/{safe(quant)}.gguf",
        "mmproj": f"runs/{maker}/gguf/mmproj.gguf",
        "merged": f"runs/{maker}/merged/manifest.json",
        "parity": f"runs/{run}/parity.json",
        "verdict": f"runs/{run}/verdict.json",
        "scores": f"runs/{run}/scores/{{}}.json",
        "images": f"datasets/{dataset}/images/manifest.json",
        "redaction": f"datasets/{dataset}/redaction.json",
    }
