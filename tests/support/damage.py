"""Damage to files as disks and half-done copies do it: the time of change stays as it was."""

import os
from pathlib import Path


def keeping_times(path: Path, content: bytes) -> None:
    """Write other content into a file, not into what shares its bytes by a hard link; its times stay."""
    times = path.stat()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def flip_byte(path: Path) -> None:
    """Turn over all bits of the byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    keeping_times(path, bytes(content))


def cut_short(path: Path) -> None:
    """Cut a file off in the middle."""
    keeping_times(path, path.read_bytes()[: path.stat().st_size // 2])
