"""Helps."""

from scripts.common.terminal import log


def double(value):
    """Return twice the value."""
    log.info("doubling %s", value)
    return 2 * value
