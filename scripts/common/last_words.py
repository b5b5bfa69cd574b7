"""What failed jobs said last, picked out of Snakemake's log and theirs: its own report buries that under commands."""

import re
from collections.abc import Iterable
from pathlib import Path

# Snakemake's report of a failed job, and what is left of it under `--quiet rules`.
REPORT = re.compile(r"^Error in .+:\n(?P<body>(?:    .*\n|\s*\n)*)", re.MULTILINE)
REPORTED_LOG = re.compile(r"^    log: (.+?) \(check log file", re.MULTILINE)
COMMAND = re.compile(r"^Command '.*? --log (?P<log>\S+).*?' (?:returned non-zero|died with)", re.MULTILINE | re.DOTALL)
# The lines of scripts/common/cli.py: time, level, text.
LOGGED = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]+) ", re.MULTILINE)
FAULT_OF_STEP = "this is a fault of the step"
KILLED = "the job ended without a word: it was killed, perhaps for want of memory"


def last_words(snakemake_logs: Iterable[Path | str]) -> dict[str, str]:
    """Return the logs of the jobs that failed for good, and what each said last."""
    text = "\n".join(Path(log).read_text(encoding="utf-8", errors="replace") for log in snakemake_logs)
    failed = {command["log"].strip("'\""): True for command in COMMAND.finditer(text)}
    for report in REPORT.finditer(text):
        job = re.search(r"^    jobid: (\d+)", report["body"], re.MULTILINE)
        again = job and re.search(rf"^Finished jobid: {job[1]}\b", text[report.end() :], re.MULTILINE)
        for log in REPORTED_LOG.findall(report["body"]):
            failed[log] = not again
    return {log: last_word(Path(log)) for log, for_good in failed.items() if for_good}


def last_word(log: Path) -> str:
    """Return what a step said when it failed; that it said nothing, where it was killed."""
    if not log.is_file():
        return "the job ended before it began its log"
    text = log.read_text(encoding="utf-8", errors="replace").rstrip()
    if not text:
        return "the job ended before it said a word: it was killed, or could not start; then Snakemake's lines say why"
    lines = list(LOGGED.finditer(text))
    if not lines or lines[-1]["level"] != "ERROR":
        return KILLED
    said = text[lines[-1].end() :]
    return said.splitlines()[-1] if said.startswith(FAULT_OF_STEP) else said
