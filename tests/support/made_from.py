"""Checksum files of results that a test writes itself, as a step leaves them."""

from pathlib import Path

from scripts.common.checksums import checksum_path, checksum_text, name_inputs, note_input, sha256_of


def made_from(result: Path, *inputs: Path) -> Path:
    """Write the checksum file of a result, which records these inputs; return the result's path."""
    name_inputs(inputs)
    for path in inputs:
        note_input(path)
    checksum_path(result).write_text(checksum_text(result, sha256_of(result)))
    name_inputs([])
    return result
