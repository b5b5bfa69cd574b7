"""Read score files."""

from pathlib import Path

from scripts.common.files import read_json
from scripts.score.metrics import METRICS, Metric


def read_scores(path: Path) -> dict:
    """Return the scores of one variant, and register its custom metrics (`score.metrics_from`)."""
    scores = read_json(path)
    METRICS.update({name: Metric(**facts) for name, facts in scores["own_metrics"].items()})
    return scores


def read_variants(paths: list[Path]) -> dict[str, dict]:
    """Return the scores of several variants by variant, in the order of the paths."""
    return {scores["variant"]: scores for scores in map(read_scores, paths)}
