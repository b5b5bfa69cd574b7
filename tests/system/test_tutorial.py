"""The tutorial's files and commands as a reader types them in a fresh clone, and what the page says that they print."""

import re
import subprocess
from pathlib import Path

import pytest

from scripts.common.files import read_json
from tests.support.checkout import copy_of_the_checkout, printed_by
from tests.support.project import ROOT, without_make

PAGE = ROOT / "docs/tutorial.md"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
ADDRESS, FOLDER = "https://github.com/OWNER/snaketune", "workshop"
RUN = "results/workshop/runs/cards"
END = "end of block"


def blocks() -> list[tuple[str, str, str]]:
    """Return language, name of the file and text of the page's blocks."""
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def typed(venv: Path) -> str:
    """Return a script that does what a reader does; it links the environment instead of installing it."""
    script = ["set -euo pipefail"]
    for language, name, text in blocks():
        if name:
            script.append(f"cat > {name} <<'END_OF_FILE'\n{text}END_OF_FILE")
        elif language == "bash":
            script.append(f"{text}echo '{END}'")
        if text.startswith("git clone"):
            script.append(f"ln -s {venv} .venv; echo .venv >> .git/info/exclude; export PYTHONPATH=$PWD")
    return "\n".join(script)


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@localhost", *words], check=True)


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> tuple[Path, list[str]]:
    """The clone after all steps of the page, and what each block of commands printed."""
    origin = copy_of_the_checkout(tmp_path_factory.mktemp("origin"))
    git(origin, "init", "--quiet")
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message", "The state under test")
    folder = tmp_path_factory.mktemp("reader")
    address = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{origin}.insteadOf", "GIT_CONFIG_VALUE_0": ADDRESS}
    environment = {**without_make(), **address, "COLUMNS": "120"}
    printed = printed_by(["bash", "-c", typed(ROOT / ".venv")], folder, environment)
    return folder / FOLDER, printed.split(f"{END}\n")


def shown_after(printed: list[str]) -> list[tuple[str, str]]:
    """Return each line that the page shows, with what the commands before it printed."""
    pairs, count = [], -1
    for language, name, text in blocks():
        count += language == "bash" and not name
        if language == "text":
            pairs += [(line, printed[count]) for line in text.splitlines()]
    return pairs


# Lines with times, scores or the name of a release, which differ between machines: their numbers may be others.
DIFFERING = re.compile(r"^\[ ?\d+/|^(base|q8_0 \*) +\d| is −?\d+\.\d %|^cards hold: |^\d{8}T\d{6}Z-")


def comparable(line: str) -> str:
    """Return a line without what may differ: numbers that depend on the machine are 0."""
    text = " ".join(line.replace("[ ", "[").replace(",", " ").split())
    return re.sub(r"\d+", "0", text) if DIFFERING.search(text) else text


def is_printed(line: str, text: str) -> bool:
    """Say whether a text has a line that the page shows; the rules of a plan may be in another order.

    `…` at the end of a line stands for anything.
    """
    start, dots, _ = line.partition("…")
    if dots:
        return any(comparable(each).startswith(comparable(start)) for each in text.splitlines())
    return any(sorted(comparable(each).split()) == sorted(comparable(line).split()) for each in text.splitlines())


def test_commands_print_what_the_page_shows(walk):
    _, printed = walk
    shown = [(line, text) for line, text in shown_after(printed) if line.strip()]
    assert len(shown) > 40
    assert [line for line, text in shown if not is_printed(line, text)] == []
    counts = [(line, text) for line, text in shown if re.search(r"jobs would run|\.jsonl|needs at least", line)]
    assert len(counts) == 11
    assert [line for line, text in counts if is_printed(re.sub(r"\d+", "9", line), text)] == []


def test_the_model_is_promoted_with_a_margin_that_another_processor_does_not_use_up(walk):
    folder, _ = walk
    verdict = read_json(folder / RUN / "verdict.json")
    assert verdict["verdict"] == "promote"
    gates = {gate["name"]: gate for gate in verdict["gates"]}
    assert gates["right"]["low"] > gates["right"]["threshold"] + 0.1
    assert gates["finished"]["low"] > gates["finished"]["threshold"] + 0.1
    assert gates["learned"]["high"] < gates["learned"]["threshold"] - 0.1


def test_what_is_delivered_is_current(walk):
    folder, _ = walk
    releases = folder.parent / "releases"
    delivered, bundle = (place / "SHA256SUMS" for place in (releases / "current", folder / RUN / "bundle"))
    assert delivered.read_bytes() == bundle.read_bytes()
