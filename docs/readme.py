"""The parts of README.md that a command makes stand between two markers, which are HTML comments."""

from pathlib import Path

from scripts.common.errors import UserError

README = Path(__file__).resolve().parents[1] / "README.md"


def between(text: str, begin: str, end: str, part: str) -> str:
    """Return a page with a part between two markers in place of what is there; raise UserError without the markers."""
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise UserError("has no place for it", README.name, remedy=f"put two lines where it belongs: {begin} and {end}")
    return f"{head}{begin}\n{part}\n{end}{tail}"


def write_between(begin: str, end: str, part: str) -> None:
    """Write a part into README.md between two markers; raise UserError without them."""
    README.write_text(between(README.read_text(encoding="utf-8"), begin, end, part), encoding="utf-8")
