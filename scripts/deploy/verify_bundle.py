"""Recompute every hash that a bundle records, and say what differs.

    python scripts/deploy/verify_bundle.py results/runs/football/bundle [--configfile config/recipes/football.yaml]

A bundle alone can be verified as well, on any machine with Python: its files, its crate, the head of its GGUF file.
What it was made from is compared where it is there: raw data and configuration beside the working directory or the
workflow, code and locks in the workflow's folder, base model and results where the bundle lies. The exit status is 1
when anything differs.
"""

import argparse
import re
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from scripts.common.errors import UserError
from scripts.common.files import canonical_sha256, sha256_of
from scripts.common.gguf_header import read_header
from scripts.deploy.code_state import hash_of_hashes
from scripts.deploy.findings import Findings, part, printable, read_foreign_json
from scripts.deploy.verify_inputs import verify_inputs

PROJECT = Path(__file__).resolve().parents[2]
SUMS, RECORD, CRATE = "SHA256SUMS", "provenance.json", "ro-crate-metadata.json"
SUM_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<name>[^\\\x00-\x1f\x7f]+)")


def read_sums(path: Path) -> dict[str, str]:
    """Return the names and hashes of a SHA256SUMS file.

    Raises UserError for a line that is none, and for a name that leads out of the folder or stands there twice.
    """
    if not path.is_file():
        raise UserError("is missing", path, remedy="name the folder of a whole bundle")
    sums: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        found = SUM_LINE.fullmatch(line)
        if not found:
            raise UserError(f"is no line '<SHA-256>  <name>': '{printable(line)}'", path, number)
        name = PurePosixPath(found["name"])
        if name.is_absolute() or ".." in name.parts or str(name) != found["name"]:
            raise UserError(f"'{printable(name)}' leads out of the bundle", path, number)
        if str(name) in sums:
            raise UserError(f"'{printable(name)}' stands there twice", path, number)
        sums[str(name)] = found["sha256"]
    return sums


def verify_files(folder: Path, findings: Findings) -> dict[str, str]:
    """Compare the bundle's files with SHA256SUMS, and return that."""
    sums = read_sums(folder / SUMS)
    links = sorted(path for path in folder.rglob("*") if path.is_symlink())
    for path in links:
        findings.fault(path.relative_to(folder).as_posix(), "is a link, which a bundle has none of")
    inside = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name, recorded in sums.items():
        if (folder / name) in links or any(link in (folder / name).parents for link in links):
            continue
        if name not in inside:
            findings.fault(name, "is missing")
        else:
            findings.compare(name, recorded, sha256_of(folder / name))
    for name in sorted(inside - sums.keys() - {SUMS}):
        findings.fault(name, f"is not in {SUMS}")
    for name in (RECORD, CRATE):
        if name not in sums:
            findings.fault(name, f"is not in {SUMS}")
    return sums


def verify_crate(folder: Path, sums: dict[str, str], findings: Findings) -> None:
    """Compare the hashes in ro-crate-metadata.json with those in SHA256SUMS."""
    content = read_foreign_json(folder / CRATE)
    try:
        entities = [item for item in content["@graph"] if "File" in item["@type"]]
        listed = {unquote(item["@id"]): item["sha256"] for item in entities}
    except (KeyError, TypeError):
        findings.fault(CRATE, "is no crate that lists its files")
        return
    for name in sorted((sums.keys() - {CRATE}) | listed.keys()):
        findings.compare(f"{CRATE}: {name}", listed.get(name), sums.get(name))


def verify_heads(folder: Path, sums: dict[str, str], findings: Findings) -> None:
    """Look at the heads of the GGUF files: counts, sizes and offsets that fit the file."""
    for name in sorted(name for name in sums if name.endswith(".gguf")):
        try:
            read_header(folder / name)
        except (OSError, UserError) as error:
            findings.fault(name, printable(error).removeprefix(f"{folder / name}: "))


def verify_record(record: dict, findings: Findings) -> None:
    """Compare the hashes in the record that are made of other parts of it."""
    sections = part(record, "config", "sections")
    findings.compare("config", part(record, "config", "sha256", kind=str), canonical_sha256(sections))
    for key in ("code", "tokenizer"):
        recorded, files = part(record, key, "sha256", kind=str), part(record, key, "files")
        findings.compare(f"{key}, its files' hashes together", recorded, hash_of_hashes(files))


def verify_bundle(folder: Path, configfiles: list[Path], project: Path = PROJECT) -> Findings:
    """Verify a bundle and, where they are there, the things that it was made from.

    Raises UserError for a folder that is no bundle, or one that was made to mislead.
    """
    findings = Findings()
    sums = verify_files(folder, findings)
    for name in (RECORD, CRATE):
        if not (folder / name).is_file() or (folder / name).is_symlink():
            return findings
    verify_crate(folder, sums, findings)
    verify_heads(folder, sums, findings)
    record = read_foreign_json(folder / RECORD)
    verify_record(record, findings)
    verify_inputs(record, folder, project, configfiles, findings)
    return findings


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    result = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    result.add_argument("bundle", type=Path, help="folder of the bundle")
    result.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="the run's configuration, as snakemake was given it"
    )
    return result


def main(argv=None) -> int:
    """Print what differs and what is not here; return 1 when anything differs."""
    arguments = parser().parse_args(argv)
    try:
        findings = verify_bundle(arguments.bundle, arguments.configfile)
    except UserError as error:
        print(f"verify_bundle.py: {error}", file=sys.stderr)
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
