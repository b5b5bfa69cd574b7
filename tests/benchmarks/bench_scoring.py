"""Scoring many answers with all text metrics, clustered by group, beside sacrebleu and a plain bootstrap.

    python -m tests.benchmarks.bench_scoring
    python -m tests.benchmarks.bench_scoring --answers 5000 --rounds 1

Ours is the step as the workflow runs it: it reads answers, likelihoods, test and training split, computes every metric
of texts with its interval, by label too, and writes scores and errors. The other side reads the same answers, computes
corpus BLEU and chrF with sacrebleu and their percentile intervals from resampled groups with numpy, nothing else. Both
give the same BLEU and chrF, which is asserted.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

from scripts.common.files import read_jsonl
from scripts.score.unify_text import unified
from tests.benchmarks.bench_dataset import SYLLABLES
from tests.benchmarks.compare import ROOT, Goal, compare, run

RESAMPLES = 10_000
PER_GROUP = 20  # answers
LIMITED = 100_000  # answers that have limits of time and memory
FORMS = ("{}", "{}", "{}", "{}", "{},", "{}.", "l'{}", "qu'{}", "« {} »", "{}-t-il", "{} !", "d’{}", "45'+2")
PHRASES = ["c'est magnifique", "un moment (de|pour) rêve", "quel match"]
SETTINGS = {
    "task": "chat",
    "language": "fr",
    "score": {
        "metrics": None,
        "bootstrap": RESAMPLES,
        "seed": 0,
        "generic_phrases": PHRASES,
        "assistant_phrases": ["en tant qu'(ia|assistant)"],
        "price_per_hour": None,
        "language": None,
        "metrics_from": None,
        "order_by": [],
        "votes": None,
        "rival": "base",
        "model_votes": False,
    },
}


def write_inputs(folder: Path, count: int) -> None:
    """Write answers, likelihoods, the test split and a training split of a tenth of its size, in French."""
    rng = random.Random(count)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(20_000)]
    weights = list(np.cumsum([1 / place for place in range(1, len(words) + 1)]))

    def text(length: int) -> list[str]:
        return [rng.choice(FORMS).format(word) for word in rng.choices(words, cum_weights=weights, k=length)]

    def sentence(found: list[str]) -> str:
        return " ".join(found).capitalize()

    with (
        open(folder / "answers.jsonl", "w", encoding="utf-8") as answers,
        open(folder / "likelihood.jsonl", "w", encoding="utf-8") as likelihood,
        open(folder / "test.jsonl", "w", encoding="utf-8") as test,
    ):
        for number in range(count):
            expected = text(rng.randint(8, 60))
            found = [word if rng.random() < 0.6 else rng.choice(FORMS).format(rng.choice(words)) for word in expected]
            wanted, answer = sentence(expected), sentence(found[: rng.randint(5, len(found))])
            asked = {"role": "user", "content": f"Raconte la minute {number} du match."}
            label = rng.choice(["but", "carton", "commentaire"])
            row = {"id": f"{number:016x}", "messages": [asked], "expected": wanted, "label": label}
            record = {**row, "messages": [asked, {"role": "assistant", "content": wanted}], "spans": None}
            record |= {"group": f"match {number // PER_GROUP}", "meta": {}, "origin": f"raw.jsonl:{number + 1}"}
            row = {"prompt_set": "test", **row, "answer": answer, "prompt_tokens": 20, "tokens": 30, "stop": "end"}
            tokens = {"id": row["id"], "nll": 2.5 * len(wanted), "tokens": len(wanted) // 3, "characters": len(wanted)}
            for file, each in ((answers, row), (likelihood, tokens), (test, record)):
                file.write(json.dumps(each, ensure_ascii=False) + "\n")
    with open(folder / "train.jsonl", "w", encoding="utf-8") as train:
        for number in range(count // 10):
            turns = [{"role": "user", "content": "Raconte."}, {"role": "assistant", "content": sentence(text(30))}]
            train.write(json.dumps({"id": f"t{number}", "messages": turns}, ensure_ascii=False) + "\n")


def ours(folder: Path) -> dict[str, float]:
    """Run the step; return its wall and CPU seconds and its peak memory."""
    words = ["answers.jsonl", "likelihood.jsonl", "--test", "test.jsonl", "--reference", "train.jsonl"]
    words = [word if word.startswith("--") else f"{folder}/{word}" for word in words]
    words += ["--run", "bench", "--variant", "base", "--settings", json.dumps(SETTINGS)]
    words += ["--scores", f"{folder}/scores.json", "--errors", f"{folder}/errors.jsonl", "--log", f"{folder}/log"]
    found = run([sys.executable, str(ROOT / "scripts/score/score_answers.py"), *words], cwd=ROOT, env=environment())
    return {"s": found.seconds, "CPU s": found.cpu_seconds, "MiB": found.mib}


def environment() -> dict[str, str]:
    """Return the environment of the step, where the workflow's folder is importable."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def theirs(folder: Path) -> dict[str, float]:
    """Run sacrebleu and the bootstrap in a process of their own; return the same."""
    found = run([sys.executable, "-m", "tests.benchmarks.bench_scoring", "--peer", str(folder)], cwd=ROOT)
    return {"s": found.seconds, "CPU s": found.cpu_seconds, "MiB": found.mib}


def plain(folder: Path) -> None:
    """Compute corpus BLEU and chrF of the answers, and the percentile intervals of both from resampled groups."""
    from sacrebleu.metrics import BLEU, CHRF

    rows = list(read_jsonl(folder / "answers.jsonl"))
    answers, expected = ([unified(row[key].strip(), "fr") for row in rows] for key in ("answer", "expected"))
    group = np.arange(len(rows)) // PER_GROUP
    draws = np.random.default_rng(0)
    scores = {}
    for name, scorer in (("bleu", BLEU(tokenize="intl", effective_order=True, force=True)), ("chrf", CHRF())):
        statistics = np.array(scorer._extract_corpus_statistics(answers, [expected]))
        sums = np.zeros((group[-1] + 1, statistics.shape[1]))
        np.add.at(sums, group, statistics)
        resampled = []
        for _ in range(RESAMPLES):
            drawn = sums[draws.integers(0, len(sums), len(sums))].sum(axis=0)
            resampled.append(scorer._compute_score_from_stats(drawn.astype(int).tolist()).score)
        value = scorer._compute_score_from_stats(statistics.sum(axis=0).tolist()).score
        scores[name] = {"value": value, "low": np.quantile(resampled, 0.025), "high": np.quantile(resampled, 0.975)}
    (folder / "peer.json").write_text(json.dumps(scores), encoding="utf-8")


def check(folder: Path) -> None:
    """Raise AssertionError unless both sides have the same BLEU and chrF, and nearly the same intervals."""
    found = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["metrics"]
    for name, other in json.loads((folder / "peer.json").read_text(encoding="utf-8")).items():
        assert abs(found[name]["value"] - other["value"]) < 1e-5, (found[name], other)
        for end in ("low", "high"):
            assert abs(found[name][end] - other[end]) < 0.2 * (other["high"] - other["low"]), (found[name], other)


def main(argv=None) -> None:
    """Write the inputs, measure both sides in turn, and compare their results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=LIMITED)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.peer:
        plain(arguments.peer)
        return
    with tempfile.TemporaryDirectory(prefix="snaketune-") as name:
        folder = Path(name)
        write_inputs(folder, arguments.answers)
        what = f"scoring {arguments.answers:,} answers with all text metrics, clustered by group"
        goals = [Goal("scoring", what, "s", "<= 1.0")]
        if arguments.answers == LIMITED:
            goals.append(Goal("scoring_seconds", f"{what}: limit of time", "s", "<= 1.0", limit=60))
            goals.append(Goal("scoring_memory", f"{what}: limit of memory", "MiB", "<= 1.0", limit=1e9 / 2**20))
        compare(
            goals,
            {
                "ours: all metrics of texts": lambda: ours(folder),
                "sacrebleu: BLEU and chrF, numpy bootstrap": lambda: theirs(folder),
            },
            rounds=arguments.rounds,
            check=lambda _: check(folder),
            versions=["sacrebleu", "numpy"],
            note=f"{RESAMPLES:,} resamples",
        )


if __name__ == "__main__":
    main()
