"""Where a key of the configuration was written: the file and the line."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from scripts.config.duplicates import composed

COMMAND_LINE = "--config"


class Sources:
    """The files of a configuration, in the order in which they are laid over each other, and `--config` after them."""

    def __init__(self, files: Iterable[Path | str], command_line: dict | None = None):
        self.nodes = [(os.path.relpath(file), composed(file)) for file in files]
        if command_line:
            self.nodes.append((COMMAND_LINE, yaml.compose(json.dumps(command_line, default=str))))

    def line(self, place: tuple) -> str:
        """Return `file:line: ` of the key at a place, or nothing for one that no file has.

        Where several files have the key it is the last, whose value counts. Of a key that is missing it is the line of
        the section that it is missing from.
        """
        found = [(*depth_and_line(node, place), file) for file, node in self.nodes]
        depth = max((depth for depth, _, _ in found), default=0)
        if depth == 0:
            return ""
        line, file = next((line, file) for there, line, file in reversed(found) if there == depth)
        return f"{file}: " if file == COMMAND_LINE else f"{file}:{line}: "


def depth_and_line(node: yaml.Node | None, place: tuple) -> tuple[int, int]:
    """Return how many parts of a place a file has, and the line of the last of them."""
    depth, line = 0, 0
    for part in place:
        entry = entry_of(node, part)
        if entry is None:
            break
        key, node = entry
        depth, line = depth + 1, key.start_mark.line + 1
    return depth, line


def entry_of(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the nodes of a key and its value, those of a merged mapping (`<<`) included; None where there is none."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if not isinstance(node, yaml.MappingNode):
        return None
    own = [(key, value) for key, value in node.value if key.value == str(part)]
    merged = [value for key, value in node.value if key.value == "<<"]
    mappings = [each for value in merged for each in (value.value if isinstance(value, yaml.SequenceNode) else [value])]
    inherited = (entry for mapping in mappings if (entry := entry_of(mapping, part)))
    return own[-1] if own else next(inherited, None)
