"""Find the file and the line of a key of the configuration."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from scripts.config.duplicates import composed

COMMAND_LINE = "--config"


class Sources:
    """The files of a configuration, in increasing priority, followed by `--config`."""

    def __init__(self, files: Iterable[Path | str], command_line: dict | None = None):
        self.nodes = [(os.path.relpath(file), composed(file)) for file in files]
        if command_line:
            self.nodes.append((COMMAND_LINE, yaml.compose(json.dumps(command_line, default=str))))

    def line(self, place: tuple) -> str:
        """Return `file:line: ` of the key at a place; empty if no file has any part of the place.

        If several files have the key, the result is the last one, whose value is used. For a missing key, it is the
        line of the section that should contain it.
        """
        found = [(*depth_and_line(node, place), file) for file, node in self.nodes]
        depth = max((depth for depth, _, _ in found), default=0)
        if depth == 0:
            return ""
        line, file = next((line, file) for there, line, file in reversed(found) if there == depth)
        return f"{file}: " if file == COMMAND_LINE else f"{file}:{line}: "


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
