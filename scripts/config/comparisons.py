"""What is chosen on the validation split: a run of each sweep, and the strategy of a run."""

from scripts.config.root import Config
from scripts.config.runs import Run


def compares_strategies(run: Run) -> bool:
    """Return whether a run has a strategy other than the chosen one, so that there is something to compare."""
    return bool(set(run.strategies) - {run.strategy})


def sweep_of(config: Config, run: str) -> str | None:
    """Return the name of the sweep that a run belongs to, or None."""
    return next((name for name, runs in config.sweeps.items() if run in runs), None)
