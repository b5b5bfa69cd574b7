"""Small bundles to deliver, and what must hold of a folder of releases at any moment."""

import hashlib
import json
from pathlib import Path

from scripts.deploy.release import main

PROMOTE = {"verdict": "promote", "reason": "every gate passed", "advice": "Ship it: every gate passed.", "chosen": None}
HOLD = {"verdict": "hold", "reason": "needs data", "advice": "Don't ship yet: needs data.", "chosen": None}


def make_bundle(folder: Path, name: str, verdict: dict | None = PROMOTE, size: int = 1000, model: bytes = b"") -> Path:
    """Make a folder with the files of a bundle that a delivery reads; its name is its content, unless `model` is."""
    bundle = folder / name
    (bundle / "workflow").mkdir(parents=True)
    (bundle / "provenance.json").write_text(json.dumps({"run": name, "verdict": verdict}))
    (bundle / "model.gguf").write_bytes(model or name.encode() * size)
    (bundle / "workflow/Snakefile").write_text("rule all:\n")
    (bundle / "serve.sh").write_text("#!/bin/sh\n")
    (bundle / "serve.sh").chmod(0o755)
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    hashes = {path.relative_to(bundle).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (bundle / "SHA256SUMS").write_text("".join(f"{sha256}  {name}\n" for name, sha256 in hashes.items()))
    return bundle


def release(*words: object) -> int:
    """Run the program; return its exit status."""
    return main([str(word) for word in words])


def current_run(target: Path) -> str:
    """Return the run whose release is current, after a check of each of its files."""
    folder = target / "current"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        sha256, _, name = line.partition("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    return json.loads((folder / "release.json").read_text())["run"]


def history(target: Path) -> list[dict]:
    """Return the lines of the history."""
    return [json.loads(line) for line in (target / "history.jsonl").read_text().splitlines()]
