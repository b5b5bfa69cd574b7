"""Reading score files, with a clear line for one that another version wrote."""

from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_json

KEYS = (
    "run", "variant", "records", "asked", "empty", "commonest", "metrics", "reasons", "ids", "per_record", "statistics",
    "answer_kind", "by_label", "prompt_sets", "reference",
)  # fmt: skip


def read_scores(path: Path) -> dict:
    """Return the scores of one variant."""
    scores = read_json(path)
    missing = [key for key in KEYS if not isinstance(scores, dict) or key not in scores]
    if missing:
        raise UserError(f"has no '{missing[0]}'", path, remedy="make the file again with the rule score_answers")
    return scores


def read_variants(paths: list[Path]) -> dict[str, dict]:
    """Return the scores of several variants by variant, in the order of the paths."""
    return {scores["variant"]: scores for scores in map(read_scores, paths)}
