"""The commands of README, docs and CONTRIBUTING, and the marks of those that tests can't run."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from docs.build_site import ROOT, pages

PARSER = MarkdownIt("commonmark").enable("table")
MARK = re.compile(r"^ *<!-- needs: (GPU|network|service) -->\n?$")
SHELLS = ("", "bash", "sh", "console")  # languages of fences with commands; an indented block has none
ASSIGNED = re.compile(r"^\w+=.*$")


@dataclass(frozen=True)
class Command:
    """A command of a page: its text on one line, its words without assignments before them, and its block's mark."""

    page: Path
    line: int
    text: str
    words: tuple[str, ...]
    needs: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.text}"


def split(block: str) -> Iterator[tuple[int, str]]:
    """Yield the commands of a block with the number of their line in it; a loop and open quotes are one command."""
    kept, start = "", 0
    for number, line in enumerate(block.splitlines()):
        kept, start = (f"{kept}\n{line}", start) if kept else (line, number)
        try:
            words = shlex.split(kept.replace("\\\n", " "), comments=True)
        except ValueError:  # quotes are open
            continue
        if kept.endswith("\\") or (words and words[0] == "for" and words[-1] != "done"):
            continue
        if words:
            yield start, kept
        kept = ""
    assert not kept, f"unfinished command: {kept}"


def command_of(page: Path, line: int, text: str, needs: str | None) -> Command:
    """Return a command from its text."""
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    while words and ASSIGNED.match(words[0]):
        del words[0]
    return Command(
        page, line, " ".join(re.sub(r"(?m)\s+#\s.*$", "", text).replace("\\\n", " ").split()), tuple(words), needs
    )


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands in the indented blocks and shell fences of a page."""
    needs = None
    for token in PARSER.parse(page.read_text(encoding="utf-8")):
        if token.type == "code_block" or (token.type == "fence" and token.info in SHELLS):
            first = token.map[0] + (2 if token.type == "fence" else 1)
            for line, text in split(token.content):
                yield command_of(page, first + line, text, needs)
        if token.type == "html_block" or (token.block and token.type in ("code_block", "fence", "inline")):
            mark = MARK.match(token.content)
            needs = mark[1] if mark else None


def documented() -> list[Command]:
    """Return the commands of all pages but the changelog, which tells of the past."""
    return [command for page in pages() if page.name != "CHANGELOG.md" for command in commands(page)]


def mentioned() -> Iterator[Command]:
    """Yield what sentences and tables of these pages name of make, Snakemake and Python."""
    for page in pages():
        for token in PARSER.parse(page.read_text(encoding="utf-8")) if page.name != "CHANGELOG.md" else ():
            for child in token.children or ():
                if child.type == "code_inline" and re.match(r"(make|snakemake|python3?) \S", child.content):
                    yield command_of(page, token.map[0] + 1, child.content, None)
