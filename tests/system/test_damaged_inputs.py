"""Whatever a step reads of an earlier one and finds changed, it refuses by name; told what to do, all is well.

Damage is done as disks do it: a byte turned over or the end missing, the time of change kept, so that Snakemake sees
nothing.
"""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from scripts.common.files import read_json, sha256_of
from tests.support.damage import cut_short, flip_byte

JOB = re.compile(
    r"^(?:local)?rule (\w+):\n    input: (.*)\n(?:    .*\n)*?Shell command: \n((?: {8}.*\n)+)", re.MULTILINE
)
RUN = "results/runs/cards"
# What a step has among its inputs and does not read itself.
UNREAD = {
    ("tokenize_conversations", "model.safetensors"),  # looked at by size only: no weights are read
    ("convert_to_gguf", "small"),  # of the base model the manifest is read, and no other file
    ("decide_verdict", "small"),
    ("write_run_report", "small"),
    ("write_run_report", "bf16.gguf"),  # its size only
    ("write_leaderboard", "small"),
    ("build_bundle", "small"),
}


class Job:
    """A job as a dry run prints it."""

    def __init__(self, rule: str, inputs: str, command: str):
        self.rule, self.inputs = rule, [Path(path) for path in inputs.split(", ") if path.startswith("results/")]
        words = shlex.split(command[command.index("python scripts/") :].replace("\\\n", " "))
        place = words.index("--log")
        self.script, self.words = words[1], [*words[2:place], *words[place + 2 :]]

    def files(self) -> list[Path]:
        """Return the files that the job reads: its inputs, and what lies in the folder of a manifest among them."""
        found = []
        for path in self.inputs:
            found.append(path)
            if path.name == "manifest.json" and (self.rule, path.parent.name) not in UNREAD:
                found += [path.parent / name for name in read_json(path)["files"]]
        return [path for path in found if (self.rule, path.name) not in UNREAD and path.stat().st_size]

    def run(self) -> int:
        """Run the job's step in this process; return its exit status."""
        module = ".".join(Path(self.script).with_suffix("").parts[-3:])
        return importlib.import_module(module).main(self.words)


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    """A copy of the finished project, to damage."""
    return finished.copy(tmp_path_factory.mktemp("damaged") / "project")


def jobs_of(project) -> dict[str, Job]:
    """Return one job of each rule that reads results of another."""
    shown = project.snakemake("--dry-run", "--forceall", "--printshellcmds").stdout
    found = [Job(*match.groups()) for match in JOB.finditer(shown)]
    return {job.rule: job for job in found if job.inputs}


def test_every_file_that_a_step_reads_is_refused_when_it_has_changed(project, monkeypatch, capfd):
    monkeypatch.chdir(project.folder)
    jobs, refused = jobs_of(project), set()
    assert len(jobs) >= 15
    for rule, job in jobs.items():
        if rule == "write_leaderboard":
            settings = re.search(r"printf %s ('.*') \|", project.snakemake("-n", "-F", "-p").stdout)[1]
            job.words[job.words.index("@/dev/stdin")] = shlex.split(settings)[0]
        for path in job.files():
            for damage in (flip_byte, cut_short) if path not in refused else (flip_byte,):
                whole, times = path.read_bytes(), path.stat()
                damage(path)
                assert path.stat().st_mtime_ns == times.st_mtime_ns
                status = job.run()
                said = capfd.readouterr().err
                assert status == 1, f"{rule} takes {path}: {said}"
                line = next(line for line in said.splitlines() if f"{path}: " in line)
                assert re.search(r"(has changed since it was made|has \d+ bytes, not \d+); delete ", line), line
                assert "Traceback" not in said
                path.unlink()
                path.write_bytes(whole)
                refused.add(path)
    kinds = {path.suffix for path in refused}
    assert kinds >= {".arrow", ".parquet", ".jsonl", ".json", ".safetensors", ".gguf", ".model", ".py"}


@pytest.mark.parametrize(
    ("path", "consumer", "target"),
    [
        (f"{RUN}/tokens/train.arrow", "train_adapter", f"{RUN}/training.json"),
        (f"{RUN}/adapter/adapter_model.safetensors", "merge_adapter", f"{RUN}/merged/manifest.json"),
    ],
)
def test_what_the_message_says_mends_it(finished, tmp_path, path, consumer, target):
    project = finished.copy(tmp_path / "project")
    file = project.folder / path
    before = sha256_of(file)
    flip_byte(file)
    assert project.planned() == {}
    again = (target, "--quiet", "host", "reason", "rules", "--forcerun", consumer)
    failed = project.snakemake(*again)
    assert failed.returncode == 1
    told = re.search(rf"{re.escape(path)}: has changed since it was made; delete (\S+?),? ", failed.stdout)
    assert told, failed.stdout
    (file if told[1] == "it" else project.folder / told[1]).unlink()
    done = project.snakemake(*again)
    assert done.returncode == 0, done.stdout
    assert sha256_of(file) == before
