"""When, in which environment and with how much energy a training ran, for training.json."""

from datetime import UTC, datetime, timedelta

from scripts.common.environment import environment
from scripts.train.energy import EnergyMeter


def surroundings(seconds: float, meter: EnergyMeter) -> dict:
    """Return the facts on a training that took so many seconds until now; `meter` was made when it began.

    Seconds and joules are those of the try that finished; the joules of a point of the curve are its own try's.
    """
    ended = datetime.now(UTC).replace(microsecond=0)
    return {
        "started": (ended - timedelta(seconds=round(seconds))).isoformat(),
        "ended": ended.isoformat(),
        "energy": {"joules": meter.since(), "meters": meter.meters, "missing": meter.missing},
        "environment": environment(),
    }
