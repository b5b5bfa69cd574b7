"""Keys that stand twice in a YAML file: the reader would silently take the last."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml


def duplicate_key_lines(files: Iterable[Path | str]) -> Iterator[str]:
    """Yield a line for each key that stands twice in a mapping of these files; files in JSON are passed over."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for file in files:
        if Path(file).suffix != ".json":
            root = yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=loader)
            yield from duplicates_in(root, str(file), "")


def duplicates_in(node: yaml.Node | None, file: str, place: str) -> Iterator[str]:
    """Yield a line for each key that stands twice in a node or below it."""
    if isinstance(node, yaml.SequenceNode):
        for position, entry in enumerate(node.value):
            yield from duplicates_in(entry, file, f"{place}[{position}]")
    if not isinstance(node, yaml.MappingNode):
        return
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        path, line = f"{place}.{key.value}".removeprefix("."), key.start_mark.line + 1
        if key.value in first_lines and key.value != "<<":
            yield f"{path}: stands twice, in lines {first_lines[key.value]} and {line} of {file}"
        first_lines.setdefault(key.value, line)
        yield from duplicates_in(value, file, path)
