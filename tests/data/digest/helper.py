"""Helps."""

from scripts.common.terminal import Progress, log


def double(value):
    """Return twice the value."""
    log.info("doubling %s", value)
    bar = Progress("doubling", 1)
    bar.advance(note="soon done")
    return 2 * value
