"""Checksum files of results that a test writes itself, as a step leaves them."""

from pathlib import Path

from scripts.common.checksums import name_inputs, note_input, sha256_of, write_checksum


def made_from(result: Path, *inputs: Path) -> Path:
    """Write the checksum file of a result, which records these inputs; return the result's path."""
    name_inputs(inputs)
    for path in inputs:
        note_input(path)
    write_checksum(result, sha256_of(result))
    name_inputs([])
    return result
