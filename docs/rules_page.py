"""Describe the workflow's rules in docs/reference/rules.md, from the text of rules/*.smk: `make docs`."""

import re
from pathlib import Path

from docs.rule_graph import STAGES

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path("docs/reference/rules.md")
INTRODUCTION = """# Rules

<!-- Made by `make docs` from rules/*.smk; do not edit. -->

What each rule makes from what. `<results>` is the folder of results (`pathvars`).
`{dataset}`, `{model}` and `{run}` are names of the configuration; [paths and steps](paths.md) has what is in each file.
`trained_by` is the run that trains the model: runs that differ only in how they answer share one training.
"""
RULE = re.compile(r'^(?:rule (\w+)|use rule (\w+) as (\w+) with):\n    """(.*?)"""\n(.*?)(?=^\S|\Z)', re.M | re.S)
SECTION = re.compile(r"^    (\w+):(.*(?:\n(?:        .*|\n(?=\s{8}))?)*)", re.M)
PATH = re.compile(r'"(<results>/[^"]+)"')


def functions() -> dict[str, str]:
    """Return what the rules' functions return: a docstring's first sentence, or the text of an assigned function."""
    common = (ROOT / "rules/common.smk").read_text(encoding="utf-8")
    texts = [common, (ROOT / "scripts/workflow/input_files.py").read_text(encoding="utf-8")]
    said = re.compile(r'(?m)^def (\w+)\(.*\n    """Return (.*?)(?:\. .*|: .*|\.?"""|\.?$)')
    assigned = re.findall(r"(?m)^(\w+) = (.*<results>.*)$", common)
    return {name: text for file in texts for name, text in [*said.findall(file), *assigned]}


def items(text: str) -> list[str]:
    """Return the items of a section, each on one line; items begin at the section's own indentation."""
    lines = [re.sub(r"\s+# .*$", "", line) for line in text.splitlines() if line.split("#")[0].strip()]
    joined = re.sub(r"\n(?: {9,}| {8}(?=[)\]]))", " ", "\n".join(lines))
    return [line.strip().rstrip(",") for line in joined.splitlines()]


def described(value: str, known: dict[str, str]) -> str:
    """Return the paths in an input's or output's text, or else what its function returns."""
    names = re.findall(r"\w+", value)
    text = " ".join([value, *(known[name] for name in names if PATH.search(known.get(name, "")))])
    if paths := PATH.findall(text):
        return ", ".join(f"`{path}`" for path in dict.fromkeys(paths))
    return next((known[name] for name in reversed(names) if name in known), f"`{value}`")


def rows(sections: dict[str, str], known: dict[str, str]) -> list[str]:
    """Return the rows of a rule's table."""
    found = []
    for kind in ("input", "output"):
        for item in items(sections.get(kind, "")):
            name, value = re.fullmatch(r"(?:(\w+)=)?(.*)", item).groups()
            found.append(f"| {kind}{f' `{name}`' if name else ''} | {described(value, known)} |")
    return found


def page() -> str:
    """Return the page of the rules."""
    known, lines, sections = functions(), [INTRODUCTION], {}
    for stage in STAGES:
        text = (ROOT / f"rules/{stage}.smk").read_text(encoding="utf-8")
        about = " ".join(text.split('"""')[1].partition("\n\n")[0].split())
        lines += [f"## {stage}", "", about, ""]
        for name, parent, new, said, body in RULE.findall(text):
            sections[name or new] = {**sections.get(parent, {}), **dict(SECTION.findall(body))}
            lines += [f"### `{name or new}`", "", " ".join(said.split()), "", "| | |", "|---|---|"]
            lines += [*rows(sections[name or new], known), ""]
    return "\n".join(lines)


def main() -> None:
    """Write the page."""
    (ROOT / PAGE).write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
