"""Read score files, with a clear error for files of another version."""

from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.score.metric_list import METRICS
from scripts.score.metrics import Metric

KEYS = (
    "run", "variant", "records", "asked", "empty", "commonest", "metrics", "reasons", "ids", "per_record", "statistics",
    "answer_kind", "by_label", "prompt_sets", "reference", "own_metrics",
)  # fmt: skip


def read_scores(path: Path) -> dict:
    """Return the scores of one variant, and register its custom metrics (`score.metrics_from`)."""
    scores = read_json(path)
    missing = [key for key in KEYS if not isinstance(scores, dict) or key not in scores]
    if missing:
        raise UserError(f"has no '{missing[0]}'", path, remedy="make the file again with the rule score_answers")
    METRICS.update({name: Metric(**facts) for name, facts in scores["own_metrics"].items()})
    return scores


def read_variants(paths: list[Path]) -> dict[str, dict]:
    """Return the scores of several variants by variant, in the order of the paths."""
    return {scores["variant"]: scores for scores in map(read_scores, paths)}
