"""`offline: true`: what steps find in their environment then, so that nothing reaches for the network."""

import os

VARIABLE = "SNAKETUNE_OFFLINE"
# The libraries' own switches: hub and data sets, pip, telemetry, trackers.
ENVIRONMENT = {
    VARIABLE: "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "PIP_NO_INDEX": "1",
    "WANDB_MODE": "offline",
}
PAGE = "docs/how-to/air-gapped.md"


def is_offline() -> bool:
    """Say whether the configuration forbids the network."""
    return bool(os.environ.get(VARIABLE))
