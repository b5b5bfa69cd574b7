"""The configuration's files as trees of nodes with line numbers: the place of a key, duplicate keys, nested aliases."""

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

COMMAND_LINE = "--config"
MOST_ENTRIES = 100_000


class Sources:
    """The files of a configuration, in increasing priority, followed by `--config`."""

    def __init__(self, files: Iterable[Path | str], command_line: dict | None = None):
        self.files = {os.path.relpath(file): composed(file) for file in files}
        settings = json.dumps(command_line, default=str) if command_line else ""
        self.nodes = {**self.files, COMMAND_LINE: yaml.compose(settings)}

    def line(self, place: tuple) -> str:
        """Return `file:line: ` of the key at a place; empty if no file has any part of the place.

        If several files have the key, the result is the last one, whose value is used. For a missing key, it is the
        line of the section that should contain it.
        """
        found = [(*depth_and_line(node, place), file) for file, node in self.nodes.items()]
        depth, line, file = max(reversed(found), key=lambda entry: entry[0])
        if depth == 0:
            return ""
        return f"{file}: " if file == COMMAND_LINE else f"{file}:{line}: "

    def duplicate_keys(self) -> Iterator[str]:
        """Yield a line for each duplicate key, of which the YAML reader would silently use the last."""
        for file, node in self.files.items():
            yield from duplicates_in(node, file, "")

    def nested_aliases(self) -> Iterator[str]:
        """Yield a line for each file whose aliases expand to more than MOST_ENTRIES entries.

        Ten lines of nested aliases can expand to billions of entries, and a loop over all of them would never end.
        """
        for file, node in self.files.items():
            if (count := expanded(node, {})) > MOST_ENTRIES:
                yield f"{file}: its aliases expand to {count} entries; write a configuration without nested aliases"


def composed(file: Path | str) -> yaml.Node | None:
    """Return the root node of a YAML file; None for a file that is not valid YAML, which may still be JSON.

    An alias is the same node object as its anchor.
    """
    try:
        return yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return None


def expanded(node: yaml.Node | None, known: dict[int, float]) -> float:
    """Return the number of entries in a node with aliases expanded; infinity for a node that contains itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        entries = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(expanded(entry, known) for entry in entries)
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
            yield f"{file}:{line}: {path}: is a duplicate of line {first_lines[key.value]}; delete one of them"
        first_lines.setdefault(key.value, line)
        yield from duplicates_in(value, file, path)


def depth_and_line(node: yaml.Node | None, place: tuple) -> tuple[int, int]:
    """Return the number of parts of a place that a file contains, and the line of the last one."""
    depth, line = 0, 0
    for part in place:
        entry = entry_of(node, part)
        if entry is None:
            break
        key, node = entry
        depth, line = depth + 1, key.start_mark.line + 1
    return depth, line


def entry_of(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the nodes of a key and its value, also from merged mappings (`<<`); None if the key is missing."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if not isinstance(node, yaml.MappingNode):
        return None
    own = [(key, value) for key, value in node.value if key.value == str(part)]
    merged = [value for key, value in node.value if key.value == "<<"]
    mappings = [each for value in merged for each in (value.value if isinstance(value, yaml.SequenceNode) else [value])]
    inherited = (entry for mapping in mappings if (entry := entry_of(mapping, part)))
    return own[-1] if own else next(inherited, None)
