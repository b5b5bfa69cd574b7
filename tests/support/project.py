"""A copy of the workflow with a very small configuration, to run it for real and to edit it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path

from scripts.common.files import sha256_of

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = ROOT / "scripts/model/sentences.txt"  # on which the tokenizers of stand-ins are trained
PARTS = ("Snakefile", "rules", "scripts", "envs", "containers", "docs", "profiles")
CONFIG = """
datasets:
  cards:
    files: [data/cards.jsonl]
    format: prompt_completion
    language: fr
    label: kind
    label_map: {goal: But}
    corrections: review/corrections.jsonl
    splits: {train: 0.6, validation: 0.2, test: 0.2, seed: 1}
models:
  small:
    embedded: {layers: 1, vocabulary: 512, context: 256}
runs:
  cards:
    dataset: cards
    model: small
    lora: {r: 4, alpha: 8}
    tokens: {max_length: 256}
    training: {max_steps: 2, micro_batch: 2, accumulation: 1, learning_rate: 1.0e-3}
    quants: [bf16]
    generation: {max_new_tokens: 4}
    prompt_sets: {more: {file: data/more.jsonl}}
    parity: {prompts: 2, max_kl: 1.0}
    score: {bootstrap: 100, votes: review/votes.jsonl}
    deploy: {quant: bf16}
gates:
  varied: {metric: length_variation, comparison: above, threshold: 0.1}
"""
WORDS = ("ballon", "but", "gardien", "tir", "passe", "centre", "ailier", "poteau", "milieu", "corner")


def raw_records(count: int = 24) -> list[dict]:
    """Return raw records, no two alike."""
    return [
        {
            "prompt": f"Minute {i}",
            "completion": f"Le {WORDS[i % 10]} numéro {i} file vers le {WORDS[(i * 7 + 3) % 10]} !",
            "kind": ("goal", "commentary")[i % 2],
        }
        for i in range(count)
    ]


class Project:
    """A folder with the workflow, a configuration and data."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def made_in(cls, folder: Path) -> "Project":
        """Make a project in an empty folder."""
        ignore = shutil.ignore_patterns("__pycache__", "images")
        for part in PARTS:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / part, **({"ignore": ignore} if source.is_dir() else {}))
        project = cls(folder)
        project.write("config/config.yaml", CONFIG)
        project.write("data/cards.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in raw_records()))
        project.write("data/more.jsonl", json.dumps({"messages": [{"role": "user", "content": "Minute 99"}]}) + "\n")
        correction = {"dataset": "cards", "record": "0" * 16, "action": "drop", "reader": "anna", "accepted_by": "bob"}
        project.write("review/corrections.jsonl", json.dumps({**correction, "at": "2026-11-29"}) + "\n")
        return project

    def copy(self, folder: Path) -> "Project":
        """Return a copy of the project, results, times of change and Snakemake's memory included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def write(self, path: str, text: str) -> None:
        """Write a file of the project."""
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text, encoding="utf-8")

    def files(self, folder: str) -> Iterator[Path]:
        """Yield the files below a folder of the project."""
        return (path for path in sorted((self.folder / folder).rglob("*")) if path.is_file())

    def snakemake(self, *arguments: str, environment: dict | None = None) -> subprocess.CompletedProcess:
        """Run snakemake in the project's folder; stdout and stderr come as one text in `stdout`."""
        return run_snakemake(self.folder, *arguments, environment=environment)

    def planned(self, *arguments: str) -> Counter:
        """Return how many jobs of each rule a dry run plans, without the target rule."""
        done = self.snakemake(*arguments, "-n")
        assert done.returncode == 0, done.stdout
        return planned_jobs(done.stdout)

    @contextmanager
    def edited(self, path: str, edit: Callable[[str], str]) -> Iterator[None]:
        """Edit a file of the project, and put it back as it was, time of change included."""
        file = self.folder / path
        before = file.read_text(encoding="utf-8") if file.exists() else None
        times = file.stat() if before is not None else None
        after = edit(before or "")
        assert after != before
        self.write(path, after)
        try:
            yield
        finally:
            if before is None:
                file.unlink()
            else:
                file.write_text(before, encoding="utf-8")
                os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def what_decides_results(project: Project, *words: str) -> str:
    """Return a digest of what decides a project's results: its files, Python and its packages, the CPU, and words."""
    digest = hashlib.sha256()
    for path in project.files("."):
        digest.update(f"{path.relative_to(project.folder)} {sha256_of(path)}\n".encode())
    packages = sorted(f"{package.name} {package.version}" for package in distributions())
    processor = sorted(set(re.findall(r"(?m)^(?:model name|flags)\s*: .*$", Path("/proc/cpuinfo").read_text())))
    digest.update("\n".join((sys.version, *packages, *processor, *words)).encode())
    return digest.hexdigest()[:12]


def without_make() -> dict[str, str]:
    """Return this environment as a shell has it that no make started: one inside another says more."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


def run_snakemake(folder: Path, *arguments: str, environment: dict | None = None) -> subprocess.CompletedProcess:
    """Run this environment's snakemake in a folder, with its programs first on the path, as `make` does."""
    tools = Path(sys.executable).parent
    env_vars = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", **(environment or {})}
    command = [str(tools / "snakemake"), "--cores", "2", *arguments]
    return subprocess.run(
        command, cwd=folder, env=env_vars, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def planned_jobs(output: str) -> Counter:
    """Return the jobs of each rule from the plan that a dry run prints."""
    if "jobs would run:" not in output:
        assert "Nothing to be done" in output, output
        return Counter()
    plan = output.partition("jobs would run:\n")[2].partition("\nBecause:")[0]
    return Counter({rule: int(count) for rule, count in re.findall(r"(\w+) (\d+)(?=,|\n|$)", plan)})
