"""The text of the rules."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULE = re.compile(
    r"^(?:use rule (?P<of>\w+) as|rule) (?P<name>\w+)(?: with)?:\n(?P<body>(?:(?: .*)?\n)*)", re.MULTILINE
)


def rules() -> dict[str, str]:
    """Return the text of each rule, that of a copied one with what it is a copy of."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for rule in RULE.finditer(path.read_text(encoding="utf-8")):
            found[rule["name"]] = found.get(rule["of"], "") + rule["body"]
    return found
