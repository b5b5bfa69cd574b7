"""Secrets of the environment are kept out of what Snakemake logs.

With `--verbose`, the executor for Slurm writes the whole environment of each job into the job's log.
"""

import logging
import os
from collections.abc import Mapping

from scripts.config.secrets import SECRET_KEY, SECRET_VALUES

SHORTEST = 6  # what is shorter stands in too many words
HIDDEN = "***"


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Return the values that are secrets by the name of their variable or by their look, the longest first."""
    found = {
        value
        for name, value in environment.items()
        if len(value) >= SHORTEST
        and (SECRET_KEY.search(name) or any(pattern.search(value) for pattern in SECRET_VALUES.values()))
    }
    return sorted({form for value in found for form in (value, repr(value)[1:-1])}, key=len, reverse=True)


class HideSecrets(logging.Filter):
    """Put stars in the place of secrets in each message of a logger."""

    def __init__(self, environment: Mapping[str, str] = os.environ):
        super().__init__()
        self.secrets = secrets_of(environment)

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record that has a secret in it; let all pass."""
        message = record.getMessage()
        if any(secret in message for secret in self.secrets):
            for secret in self.secrets:
                message = message.replace(secret, HIDDEN)
            record.msg, record.args = message, ()
        return True
