"""Remove secrets in environment variables from Snakemake's log.

With `--verbose`, the executor for Slurm writes the whole environment of each job to the job's log.
"""

import logging
import os
from collections.abc import Mapping

from scripts.config.secrets import SECRET_KEY, SECRET_VALUES

SHORTEST = 6  # shorter values occur in many words
HIDDEN = "***"


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Return values that are secrets by the name of their variable or by their pattern, the longest first."""
    found = {
        value
        for name, value in environment.items()
        if len(value) >= SHORTEST
        and (SECRET_KEY.search(name) or any(pattern.search(value) for pattern in SECRET_VALUES.values()))
    }
    return sorted({form for value in found for form in (value, repr(value)[1:-1])}, key=len, reverse=True)


class HideSecrets(logging.Filter):
    """Replace secrets by stars in each message of a logger."""

    def __init__(self, environment: Mapping[str, str] = os.environ):
        super().__init__()
        self.secrets = secrets_of(environment)

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace secrets in a record; return True to keep every record."""
        message = record.getMessage()
        if any(secret in message for secret in self.secrets):
            for secret in self.secrets:
                message = message.replace(secret, HIDDEN)
            record.msg, record.args = message, ()
        return True
