"""Recompute every hash that a bundle records, and report differences.

    python scripts/deploy/verify_bundle.py results/runs/football/bundle [--configfile config/recipes/football.yaml]

A bundle alone can be verified on any machine with Python: its files, its crate, the header of its GGUF file. Its
sources are compared if present: raw data and configuration in the working directory or the workflow's folder, code and
lock files in the workflow's folder, base model and results around the bundle. The exit status is 1 if anything differs.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from scripts.common.errors import UserError
from scripts.common.files import canonical_sha256, sha256_of
from scripts.common.plain_text import visible
from scripts.deploy import provenance
from scripts.deploy.read_files import hash_of_hashes, read_facts, read_paths
from scripts.deploy.sums import RELEASE, SHOWN, SUMS, inside, read_sums
from scripts.gguf.reader import read_gguf

PROJECT = Path(__file__).resolve().parents[2]
RECORD, CRATE = provenance.FILE, "ro-crate-metadata.json"
NOT_HERE = object()
# Paths in the results of the files that a bundle is made from, by their names in the record.
PLACES = {
    "gguf": "runs/{trained_as}/gguf/{quant}.gguf", "mmproj": "runs/{trained_as}/gguf/mmproj.gguf",
    "merged": "runs/{trained_as}/merged/manifest.json", "parity": "runs/{run}/parity.json",
    "verdict": "runs/{run}/verdict.json", "scores": "runs/{run}/scores/{variant}.json",
    "images": "datasets/{dataset}/images/manifest.json", "redaction": "datasets/{dataset}/redaction.json",
}  # fmt: skip


class Findings:
    """Lines on differences (`faults`) and missing files (`absent`), and the number of comparisons."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.absent: list[str] = []
        self.compared = 0

    def note(self, name: str, what: str, is_fault: bool = True) -> None:
        """Add a line, with terminal control characters escaped."""
        (self.faults if is_fault else self.absent).append(visible(f"{name[:SHOWN]}: {what}"))

    def compare(self, name: str, recorded: Any, found: Any) -> None:
        """Compare a recorded value with the present one; None means missing."""
        if found is NOT_HERE:
            self.note(name, "not here", is_fault=False)
            return
        self.compared += 1
        if recorded != found:
            was = "not recorded" if recorded is None else f"recorded {str(recorded)[:SHOWN]}"
            self.note(name, f"{was}, " + ("and is not there" if found is None else f"found {str(found)[:SHOWN]}"))

    def compare_all(self, title: str, recorded: dict, found: dict) -> None:
        for key in sorted(recorded.keys() | found.keys()):
            self.compare(f"{title}: {key}", recorded.get(key), found.get(key))


def hash_at(path: Path | None, hashed: Callable[[Path], Any] = sha256_of) -> Any:
    """Return the hash of a file or folder; NOT_HERE if missing."""
    return hashed(path) if path and (path.is_file() or path.is_dir()) else NOT_HERE


def read_foreign_json(path: Path) -> Any:
    """Read an untrusted JSON file; raises UserError if it is invalid."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not valid JSON: {error}", path) from None


def verify_files(folder: Path, findings: Findings) -> bool:
    """Compare the bundle's files with SHA256SUMS and the crate, and read the headers of GGUF files."""
    sums = read_sums(folder / SUMS)
    links = {path for path in folder.rglob("*") if path.is_symlink()}
    for path in sorted(links):
        findings.note(str(path.relative_to(folder)), "is a link, which bundles don't contain")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path not in links}
    for name, recorded in sums.items():
        if not links & {folder / name, *(folder / name).parents}:
            findings.compare(name, recorded, sha256_of(folder / name) if name in files else None)
    for name in sorted((files | {RECORD, CRATE}) - sums.keys() - {SUMS, RELEASE}):
        findings.note(name, f"is not in {SUMS}")
    for name in sorted(name for name in files & sums.keys() if name.endswith(".gguf")):
        try:
            read_gguf(folder / name)
        except (OSError, UserError) as error:
            findings.note(name, str(error).removeprefix(f"{folder / name}: "))
    if CRATE in files:
        try:
            works = [work for work in read_foreign_json(folder / CRATE)["@graph"] if "File" in work["@type"]]
            listed = {unquote(work["@id"]): work["sha256"] for work in works}
            findings.compare_all(CRATE, listed, {name: sums[name] for name in sums.keys() - {CRATE}})
        except (KeyError, TypeError):
            findings.note(CRATE, "does not list the bundle's files")
    return {RECORD, CRATE} <= files


def read_config(run: str, files: list[Path], project: Path) -> tuple[dict, str, list[str]]:
    """Return a run's sections of the configuration, the run that trains its model, and its raw files."""
    import yaml

    from scripts.config.expand import merged
    from scripts.config.load import load_config
    from scripts.config.paths import files_at
    from scripts.config.sections import sections_of
    from scripts.config.variants import trained_by

    raw: dict = {}
    for path in files:
        raw = merged(raw, yaml.safe_load(path.read_text(encoding="utf-8")))
    config = load_config(raw)
    if run not in config.runs:
        raise UserError(f"has no run '{run}'", files[-1], remedy="name the configuration files of the run")
    sections = sections_of(config, run)
    patterns = [pattern for key in provenance.FILE_KEYS for pattern in sections["dataset"][key] or []]
    raw = [file for pattern in patterns for file in files_at(pattern, (os.curdir, project))]
    return sections, trained_by(config.runs)[run], raw


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of nested mappings with its dotted key."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{place}.{key}" if place else str(key))
    else:
        yield place, value


def verify_sources(record: dict, project: Path, configfiles: list[Path], findings: Findings) -> None:
    """Compare each setting, and the data, at the paths of the configuration, else of the record."""
    names, recorded, found, places = record["config"]["files"], record["config"]["sections"], None, {}
    files = configfiles or [provenance.located(inside(Path(), name), project) for name in names]
    if files and None not in files:
        with suppress(ImportError):
            from scripts.config.files import first_fault

            if fault := first_fault(files):
                raise UserError(fault)
        with suppress(ImportError, *(() if configfiles else (UserError,))):
            found = read_config(record["run"], files, project)
    if found is None:
        words = f"--configfile {' '.join(names)[:SHOWN] or 'YOUR.yaml'}"
        findings.note("config", f'not compared: name the run\'s configuration, ARGS="{words}"', is_fault=False)
    else:
        sections, trained_as, raw = found
        findings.compare("trained_as", record["trained_as"], trained_as)
        findings.compare_all("config", dict(leaves(recorded)), dict(leaves(provenance.without_places(sections))))
        places = {provenance.name_in_config(path, sections["dataset"]): path for path in map(Path, raw)}
        places |= {key: provenance.located(path, project) for key, path in read_paths(sections).items()}
    if "hub" in record["data"]:
        findings.note(f"data: {record['data']['name']}", "on a hub, pinned by its revision", is_fault=False)
    for file in record["data"].get("files", []):
        path = places.get(file["name"]) or provenance.located(inside(Path(), file["name"]), project)
        findings.compare(f"data: {file['name']}", file["sha256"], hash_at(path))
    with_code = recorded["model"].get("trust_remote_code") is True
    for key, facts in record["files"].items():
        path = places.get(key) or provenance.located(inside(Path(), facts["name"]), project)
        found = hash_at(path, lambda path, key=key: read_facts(key, path, with_code)["sha256"])
        findings.compare(f"{key}: {facts['name']}", facts["sha256"], found)


def verify_results(record: dict, bundle: Path, findings: Findings) -> None:
    """Compare base model, tokenizer and the results that a bundle is made from, and trace them to the raw files."""
    place = Path(os.path.abspath(bundle))  # inputs are recorded relative to this path, links in it included
    is_beside = ("", *place.parts)[-3:] == ("runs", record["run"], "bundle")
    results = place.parents[2] if is_beside else Path(os.devnull)
    run, model = record["config"]["sections"]["run"], record["base_model"]["name"]
    names = {"run": record["run"], "trained_as": record["trained_as"], "dataset": record["data"]["name"]}
    names["quant"] = run["deploy"].get("quant") or (run["quants"] or ["bf16"])[-1]
    manifest = inside(results, f"models/{model}/manifest.json")
    findings.compare(f"base model: {model}/manifest.json", record["base_model"]["manifest_sha256"], hash_at(manifest))
    for name, facts in read_foreign_json(manifest)["files"].items() if manifest.is_file() else ():
        found = hash_at(inside(manifest.parent, name))
        findings.compare(f"base model: {model}/{name}", facts["sha256"], None if found is NOT_HERE else found)
    tokenizer = record["tokenizer"]["files"]
    findings.compare_all("tokenizer", tokenizer, {name: hash_at(inside(manifest.parent, name)) for name in tokenizer})
    made = [manifest, inside(results, f"runs/{record['trained_as']}/training.json")]
    facts = hash_at(made[1], lambda path: canonical_sha256(read_foreign_json(path)))
    findings.compare("training.json", canonical_sha256(record["training"]), facts)
    for name, recorded in record["made_from"].items():
        kind, _, variant = name.partition("/")
        made.append(inside(results, PLACES[kind].format(variant=variant, **names)))
        findings.compare(f"made from: {name}", recorded, hash_at(made[-1]))
    told = set()
    for user, read, is_there in provenance.broken_links([path for path in made if path.is_file()], set()):
        what = "has changed since it was used for" if is_there else "not here; it was used for"
        name, user = (os.path.relpath(path, results.parent) for path in (read, user))
        if name not in told:
            findings.note(f"chain: {name}", f"{what} {user}", is_fault=is_there)
        told.add(name)


def verify_bundle(folder: Path, configfiles: list[Path], project: Path = PROJECT) -> Findings:
    """Verify a bundle and, if present, its sources."""
    findings = Findings()
    if not verify_files(folder, findings):
        return findings
    record = read_foreign_json(folder / RECORD)
    try:
        findings.compare("config", record["config"]["sha256"], canonical_sha256(record["config"]["sections"]))
        for key in ("code", "tokenizer"):
            found = hash_of_hashes(record[key]["files"])
            findings.compare(f"{key}, its files' hashes together", record[key]["sha256"], found)
        verify_sources(record, project, configfiles, findings)
        findings.compare_all("code", record["code"]["files"], provenance.code_files(project))
        locks = record["locks"]
        findings.compare_all("lock", locks, {name: hash_at(inside(project / "envs", name)) for name in locks})
        if "converter" in record:
            findings.compare("converter", record["converter"], provenance.converter_facts(project))
        verify_results(record, folder, findings)
        release, verdict = folder / RELEASE, record["verdict"]["verdict"]
        if verdict != "promote" and release.is_file() and not release.is_symlink():
            reason = read_foreign_json(release).get("forced")
            told = f"delivered by force, with the verdict {verdict}: {reason or 'without a reason'}"
            findings.note(RELEASE, told, is_fault=not reason)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"is not a record of this version: {type(error).__name__}: {error}"
        raise UserError(what, folder / RECORD) from error
    return findings


def main(argv=None) -> int:
    """Print differences and missing files; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    configuration = "the run's configuration, as snakemake was given it"
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help=configuration)
    arguments = parser.parse_args(argv)
    try:
        findings = verify_bundle(arguments.bundle, arguments.configfile)
    except UserError as error:
        print("verify_bundle.py:", visible(str(error), keep="\n"), file=sys.stderr)
        return 1
    for line in findings.faults:
        print(f"DIFFERS  {line}")
    for line in findings.absent:
        print(f"unknown  {line}")
    verdict = f"{len(findings.faults)} differ" if findings.faults else "none differs"
    print(f"{findings.compared} compared, {verdict}, {len(findings.absent)} could not be compared")
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
