"""Every command of README, docs and CONTRIBUTING is run by a test, or marked as needing what tests don't have.

tests/data/commands.yaml names the test that runs a command; `snakemake -n` and `--help` are run here as they are typed.
Of the commands that are run elsewhere or nowhere, it is tested here that Snakemake, make and our programs accept them.
"""

import argparse
import importlib
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.test_dry_run import typed
from tests.support.checkout import copy_of_the_checkout, make
from tests.support.commands import Command, commands, documented, mentioned
from tests.support.project import ROOT, run_snakemake

TESTS: dict[str, str] = yaml.safe_load((ROOT / "tests/data/commands.yaml").read_text(encoding="utf-8"))
COMMANDS = documented()
# Those of pages that a test types from beginning to end need no more.
APART = [command for command in COMMANDS if str(command.page.relative_to(ROOT)) not in TESTS]
PLAIN = {"cd", "cp", "echo", "export", "git", "less", "ln", "ls", "mkdir", "rm", "shuf", "source"}
OWN_FILES = ("config/mine.yaml", "config/support.yaml")
# What pages tell the reader to have in config/config.yaml: a dataset to correct, and a target of deliveries.
CORRECTED = {"files": ["data/captions/train.jsonl"], "format": "prompt_completion"}
DELIVERED = {"target": {"folder": "production"}}


def rows_of(command: Command) -> list[str]:
    """Return the rows of the table that a command fits: its own, and that of a page whose commands are all typed."""
    text = shlex.join(command.words).replace("'", "")
    patterns = {row: re.escape(row).replace(r"\ \.\.\.", "( .*)?").replace(r"\*", r"\S*") for row in TESTS}
    fits = [row for row, pattern in patterns.items() if re.fullmatch(pattern, text)]
    return [*fits, *({str(command.page.relative_to(ROOT))} & set(TESTS))]


def is_dry(command: Command) -> bool:
    """Say whether a command is run here as it is typed."""
    return "--help" in command.words or (command.words[0] == "snakemake" and "-n" in command.words)


def test_a_command_is_found_whole_and_a_mark_holds_for_the_block_after_it(tmp_path):
    page = tmp_path / "page.md"
    block = '    A=1 make x ARGS="a b"  # why\n    for a in b; do\n        c \\\n            d\n    done\n'
    page.write_text(f"# A\n\n{block}\n<!-- needs: GPU -->\n\n    e\n\n1.  b\n\n        f\n\n```yaml\ng: h\n```\n")
    found = [(command.line, command.words[0], command.needs) for command in commands(page)]
    assert found == [(3, "make", None), (4, "for", None), (11, "e", "GPU"), (15, "f", None)]
    assert next(commands(page)).words == ("make", "x", "ARGS=a b")


def test_each_command_is_run_by_a_test_or_is_marked():
    left = [c for c in COMMANDS if not (c.needs or is_dry(c) or c.words[0] in PLAIN or rows_of(c))]
    assert list(map(str, left)) == [], (
        "add rows to tests/data/commands.yaml, or lines `<!-- needs: GPU -->` to the pages"
    )


def test_each_row_names_a_command_of_the_pages_and_a_test():
    assert set(TESTS) - {row for command in COMMANDS for row in rows_of(command)} == set()
    for place in set(TESTS.values()):
        file, _, test = place.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8") if test else (ROOT / file).is_file(), place


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository with the raw files and the settings that pages tell the reader to have."""
    folder = copy_of_the_checkout(tmp_path_factory.mktemp("pages") / "snaketune")
    (folder / ".venv").symlink_to(sys.prefix)
    for name in ("data/mine/notes.jsonl", "data/mine/mails.jsonl", "data/support/tickets.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    demo = yaml.safe_load((folder / "config/config.yaml").read_text(encoding="utf-8"))
    demo["datasets"]["corrected"] = CORRECTED
    demo["runs"]["captions"]["deploy"] |= DELIVERED
    (folder / "config/config.yaml").write_text(yaml.safe_dump(demo, sort_keys=False), encoding="utf-8")
    return folder


def own_configuration(page: Path, file: str) -> str:
    """Return what a page has the reader write into a file: its own whole example, or the demo in another folder."""
    examples = re.findall(r"(?ms)^ *```yaml[^\n]*\n(.*?)^ *```", page.read_text(encoding="utf-8"))
    whole = [text for text in examples if {"datasets", "models", "runs"} <= set(yaml.safe_load(text))]
    demo = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
    return whole[0] if whole else f"{demo}\npathvars: {{results: results/{Path(file).stem}}}\n"


def plans() -> list:
    """Return the different commands of Snakemake that this machine can plan, each with its own file and its text."""
    found = {}
    for command in APART:
        if (
            command.words[0] == "snakemake"
            and command.needs in (None, "GPU")
            and not (is_dry(command) and rows_of(command))
        ):
            words = [word for word in command.words[1:] if word not in ("-n", "--cores", "all")]
            own = next((word for word in words if word in OWN_FILES), None)
            text = own and own_configuration(command.page, own)
            found.setdefault((*words, text), pytest.param(words, own, text, id=str(command)))
    return list(found.values())


@pytest.mark.parametrize(("words", "own", "text"), plans())
def test_snakemake_plans_what_the_pages_tell_to_run(checkout, words, own, text):
    if own:
        (checkout / own).write_text(text, encoding="utf-8")
    done = run_snakemake(checkout, *words, "-n", "--quiet", "all")
    assert done.returncode == 0, done.stdout


def make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    return {".venv/installed", *re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))}


def test_make_has_the_targets_the_variables_and_the_recipes_of_the_pages():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = set(re.findall(r"\$\((?:if \$\()?([A-Z]+)\)", text))
    for command in (command for command in APART if command.words[0] == "make"):
        settings = [word for word in command.words[1:] if "=" in word]
        assert {word for word in command.words[1:] if word not in settings} <= make_targets(), command
        assert {word.partition("=")[0] for word in settings} <= variables, command
        if "recipe" in command.words and command.words[2:] != ("NAME=titles", "EMBEDDED=no", "GPU=t4"):  # shown to fail
            typed(ROOT, shlex.join(["make", "known-recipe", *settings]))


def test_sentences_name_targets_options_and_programs_that_are_there(monkeypatch):
    from snakemake.cli import parse_args

    wrong = []
    monkeypatch.chdir(ROOT)
    for command in mentioned():
        program, *words = command.words
        if program == "snakemake":
            try:
                parse_args([word for word in words if word != "..."])
            except SystemExit:
                wrong.append(str(command))
        elif program == "make":
            if words[0] != "-C" and not {word for word in words if "=" not in word} <= make_targets():
                wrong.append(str(command))
        elif not re.search("<|BUNDLE", command.text):
            file = f"{words[1].replace('.', '/')}.py" if words[0] == "-m" else words[0]
            if not (ROOT / file).is_file():
                wrong.append(str(command))
    assert wrong == []


class ParsedError(Exception):
    """Ends a program that has taken its arguments."""


@pytest.fixture
def takes_arguments(monkeypatch):
    """A function that gives a program its arguments and stops it before it does anything."""

    def parse_and_stop(self, *arguments, plain=argparse.ArgumentParser.parse_args):
        plain(self, *arguments)
        raise ParsedError

    def take(program: str, *arguments: str) -> None:
        assert (ROOT / program).is_file()
        with pytest.raises((ParsedError, SystemExit)) as ended:
            importlib.import_module(program.removesuffix(".py").replace("/", ".")).main(list(arguments))
        assert ended.type is ParsedError or ended.value.code == 0

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    return take


@pytest.mark.parametrize("command", [c for c in APART if re.fullmatch(r"(.*/)?python[\d.]*", c.words[0])], ids=str)
def test_our_programs_take_the_arguments_of_the_pages(command, takes_arguments):
    program, *arguments = command.words[1:]
    if program == "-m":
        program, *arguments = arguments[0].replace(".", "/") + ".py", *arguments[1:]
    if program == "quality_monitor.py":  # in a bundle
        program = f"scripts/deploy/{program}"
    takes_arguments(program, *arguments)


def test_make_review_starts_the_page_with_what_the_pages_give_it(checkout, takes_arguments):
    reviews = [command for command in COMMANDS if command.words[:2] == ("make", "review")]
    assert len(reviews) > 3
    for command in {command.words: command for command in reviews}.values():
        printed = typed(checkout, shlex.join([*command.words, "--dry-run"]))
        [line] = re.findall(r"(?m)^python (scripts/review/serve\.py .*)$", printed)
        takes_arguments(*shlex.split(line))


def test_make_format_changes_nothing_that_the_linters_accept(checkout):
    files = {path: path.stat().st_mtime_ns for name in ("scripts", "rules") for path in (checkout / name).rglob("*.*")}
    make(checkout, "format")
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_the_readmes_own_data_are_read_and_split(checkout):
    [command] = [c for c in COMMANDS if c.page.name == "README.md" and "ledger.html" in c.text]
    (checkout / "config/support.yaml").write_text(own_configuration(command.page, ""), encoding="utf-8")
    rows = [f"Who may open ticket {i}?,Customer {i} and people of team {i * 7}.,customer-{i}" for i in range(40)]
    (checkout / "data/support/tickets.csv").write_text("\n".join(["question,answer,customer", *rows]), encoding="utf-8")
    done = run_snakemake(checkout, *command.words[1:])
    assert done.returncode == 0, done.stdout
    made = (checkout / command.words[1]).parent
    assert (
        sum(len((made / f"{split}.jsonl").read_text().splitlines()) for split in ("train", "validation", "test")) == 40
    )


def test_a_deleted_adapter_is_trained_again(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    shutil.rmtree(project.folder / "results/runs/cards/adapter")
    assert project.snakemake("results/runs/cards/adapter/manifest.json", "--quiet", "all").returncode == 0
    assert (project.folder / "results/runs/cards/adapter/adapter_model.safetensors").is_file()
