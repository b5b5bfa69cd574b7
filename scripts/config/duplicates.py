"""Find duplicate keys in YAML files, of which the YAML reader would silently use the last."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

MOST_ENTRIES, ENDLESS = 100_000, float("inf")


def duplicate_key_lines(files: Iterable[Path | str]) -> Iterator[str]:
    """Yield a line for each duplicate key in these files; JSON files are skipped."""
    for file in files:
        if Path(file).suffix != ".json":
            yield from duplicates_in(composed(file), str(file), "")


def composed(file: Path | str) -> yaml.Node | None:
    """Return the root node of a YAML file; None for a file that is not valid YAML, which may still be JSON.

    An alias is the same node object as its anchor.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=loader)
    except yaml.YAMLError:
        return None


def bomb_lines(files: Iterable[Path | str]) -> Iterator[str]:
    """Yield a line for each file whose aliases expand to more than MOST_ENTRIES entries.

    Ten lines of nested aliases can expand to billions of entries, and a loop over all of them would never end.
    """
    for file in files:
        if Path(file).suffix != ".json" and (count := expanded(composed(file), {}, set())) > MOST_ENTRIES:
            what = "itself" if count == ENDLESS else f"{count} entries"
            yield f"{file}: its aliases stand for {what}; write a configuration without nested aliases"


def expanded(node: yaml.Node | None, known: dict[int, float], above: set[int]) -> float:
    """Return the number of entries in a node with aliases expanded; infinity for a node that contains itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in above:
        return ENDLESS
    if id(node) not in known:
        above.add(id(node))
        entries = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(expanded(entry, known, above) for entry in entries)
        above.remove(id(node))
    return known[id(node)]


def duplicates_in(node: yaml.Node | None, file: str, place: str) -> Iterator[str]:
    """Yield a line for each duplicate key in a node or below it."""
    if isinstance(node, yaml.SequenceNode):
        for position, entry in enumerate(node.value):
            yield from duplicates_in(entry, file, f"{place}[{position}]")
    if not isinstance(node, yaml.MappingNode):
        return
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        path, line = f"{place}.{key.value}".removeprefix("."), key.start_mark.line + 1
        if key.value in first_lines and key.value != "<<":
            yield f"{os.path.relpath(file)}:{line}: {path}: stands twice, first in line {first_lines[key.value]}"
        first_lines.setdefault(key.value, line)
        yield from duplicates_in(value, file, path)
