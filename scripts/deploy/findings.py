"""What a verification finds: one line for each thing that differs, and for each that could not be looked at."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.common.files import sha256_of

SHOWN = 60


def printable(value: Any) -> str:
    """Return a value as one short line that can do nothing to a terminal."""
    text = "".join(sign if sign.isprintable() else "?" for sign in str(value))
    return text if len(text) <= SHOWN or len(text) == 64 else text[: SHOWN - 3] + "..."


@dataclass
class Findings:
    """Lines on what differs and on what is not here, and how many things were compared."""

    faults: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    compared: int = 0

    def fault(self, name: str, what: str) -> None:
        """Note something that is wrong."""
        self.faults.append(f"{printable(name)}: {what}")

    def not_here(self, name: str, why: str = "not here") -> None:
        """Note something that could not be compared."""
        self.absent.append(f"{printable(name)}: {why}")

    def compare(self, name: str, recorded: Any, found: Any) -> None:
        """Compare what was recorded with what is there; None is nothing."""
        self.compared += 1
        if recorded == found:
            return
        if found is None:
            self.fault(name, f"recorded {printable(recorded)}, and is not there")
        elif recorded is None:
            self.fault(name, f"not recorded, found {printable(found)}")
        else:
            self.fault(name, f"recorded {printable(recorded)}, found {printable(found)}")

    def compare_file(self, name: str, recorded: str, path: Path | None) -> None:
        """Compare a recorded hash with that of a file, if it is there."""
        if path is None or not path.is_file():
            self.not_here(name)
        else:
            self.compare(name, recorded, sha256_of(path))


def read_foreign_json(path: Path) -> Any:
    """Read a JSON file that anybody may have written or changed; raises UserError for one that is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"is not valid JSON: {error.msg}", path, error.lineno) from None
    except (UnicodeDecodeError, RecursionError):
        raise UserError("is not valid JSON: it is nested too deep, or is no text", path) from None


def part(record: Any, *keys: str, kind: type = dict) -> Any:
    """Return a part of a record that somebody else may have written; raises UserError where it is missing or odd."""
    for key in keys:
        if not isinstance(record, dict) or key not in record:
            raise UserError(f"provenance.json has no '{'.'.join(keys)}'", remedy="was it made by another version?")
        record = record[key]
    if not isinstance(record, kind):
        raise UserError(f"provenance.json: '{'.'.join(keys)}' is no {kind.__name__}")
    return record
