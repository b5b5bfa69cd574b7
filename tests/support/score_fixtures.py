"""Small answers and likelihoods in French and Vietnamese, as the predict stage writes them."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.common.checksums import checksum_path
from scripts.common.judged import judged_hash

FRENCH = [
    ("Minute 12'. Événement : But.", "But", "But ! Lassana Koné ouvre le score d'une frappe croisée du gauche."),
    ("Minute 20'. Événement : Commentaire.", "Commentaire", "Le gardien repousse le ballon en corner."),
    ("Minute 31'. Événement : Carton.", "Carton", "Carton jaune pour Ferrandi, en retard sur Moreau."),
    ("Minute 45'. Événement : Commentaire.", "Commentaire", "Les deux équipes sont rentrées aux vestiaires."),
    ("Minute 58'. Événement : Remplacement.", "Remplacement", "Jovanic est entré en jeu à la place de Vidalot."),
    (
        "Minute 63'. Événement : Commentaire.",
        "Commentaire",
        "L'arbitre n'a pas sifflé, et Rives s'est arrêté de jouer.",
    ),
    ("Minute 77'. Événement : But.", "But", "Quelle tête de Tessonnier ! Valmont revient à deux partout."),
    ("Minute 90'+3. Événement : Commentaire.", "Commentaire", "C'est terminé à Valmont : on en restera là."),
]
VIETNAMESE = [
    ("Lá bài: Bãi Rùa Đẻ", "protection", "Đêm nào ông Thạnh cũng xách chiếc đèn bọc vải đỏ đi dọc bãi Bảy Cạnh."),
    ("Lá bài: Phiên Chợ Xanh", "community", "Sáng chủ nhật, bà Sáu bày mớ rau sạch trên chiếc chiếu cói trước đình."),
    ("Lá bài: Bão Số Chín", "disaster", "Gió giật cấp mười hai, cả xóm kéo nhau lên trường học trên đồi."),
]
TEXTS = {"fr": FRENCH, "vi": VIETNAMESE}
SCORE = {
    "metrics": None,
    "metrics_from": None,
    "language": None,
    "generic_phrases": [],
    "assistant_phrases": [],
    "price_per_hour": None,
    "order_by": [],
    "votes": None,
    "rival": "base",
    "model_votes": False,
    "bootstrap": 200,
    "seed": 0,
}


def answer_rows(language: str, change=lambda text, index: text, prompt_set: str = "test", **fields) -> list[dict]:
    """Return answer rows whose answers are the expected ones after `change(text, index)`."""
    return [
        {
            "prompt_set": prompt_set,
            "id": f"{index:016x}",
            "messages": [{"role": "user", "content": prompt}],
            "expected": expected,
            "label": label,
            "answer": change(expected, index),
            "prompt_tokens": 20,
            "tokens": len(expected) // 4,
            "stop": "end",
            "seconds": 0.5 + index / 10,
            **fields,
        }
        for index, (prompt, label, expected) in enumerate(TEXTS[language])
    ]


def likelihood_rows(language: str, perplexity: float = 10.0, spread: float = 0.1) -> list[dict]:
    """Return likelihood rows around a perplexity per token."""
    return [
        {
            "id": f"{index:016x}",
            "nll": (len(text) // 4) * math.log(perplexity) * (1 + spread * (index % 3 - 1)),
            "tokens": len(text) // 4,
            "characters": len(text),
        }
        for index, (_, _, text) in enumerate(TEXTS[language])
    ]


def write_rows(path: Path, rows: Iterable[dict]) -> Path:
    """Write rows as JSONL; a checksum file that a step left there is no longer true."""
    path.parent.mkdir(parents=True, exist_ok=True)
    checksum_path(path).unlink(missing_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def vote(kind: str, row: dict, reader: str, text: str | None = None, **said) -> dict:
    """Return a vote on an answer row of run r, variant q8_0; `text` is what was judged in the answer's place."""
    judged = judged_hash(row["messages"], row["answer"] if text is None else text)
    known = {"record": row["id"], "run": "r", "variant": "q8_0", "hash": judged, "is_model": False, "repeat": False}
    values = {"rating": {"passed": None, "stars": None, "comment": ""}}.get(kind, {})
    return {"kind": kind, "study": "s", "reader": reader, "at": "2026-11-29T21:00:00Z", **known, **values, **said}


def record_rows(rows: list[dict], **columns: Sequence) -> list[dict]:
    """Return the test records of answer rows; `columns` has the values of `group`, and of columns of `meta`."""
    return [
        {
            "id": row["id"],
            "group": columns["group"][place] if "group" in columns else None,
            "meta": {name: values[place] for name, values in columns.items() if name != "group"},
            "origin": f"raw.json:{place + 1}",
        }
        for place, row in enumerate(rows)
    ]


def first_half(text: str, index: int) -> str:
    """Return the first half of a text: a poor answer."""
    return text[: len(text) // 2]


def babble(text: str, index: int) -> str:
    """Return an answer that repeats itself."""
    return "le ballon le ballon le ballon le ballon" if index % 2 else "le match et le match et le match"


def same(text: str, index: int) -> str:
    """Return a text as it is: a perfect answer."""
    return text


def gate(metric: str = "chrf", comparison: str = "above", threshold: float = 50.0, **settings) -> dict:
    """Return a gate's settings."""
    blank = {"relative": False, "variant": "shipped", "baseline": None, "on_failure": "hold", "looks": 1}
    return {"metric": metric, "comparison": comparison, "threshold": threshold, **blank, **settings}


def scored(
    folder: Path, rows: list[dict], likelihood: Sequence[dict] = (), language: str | None = "fr", score=None, more=()
) -> dict:
    """Score answers with the real step; return the scores. `score` are settings, `more` words of the command line."""
    from scripts.score.score_answers import main as score_step

    words = [write_rows(folder / "answers.jsonl", rows), write_rows(folder / "likelihood.jsonl", likelihood)]
    words += ["--run", "r", "--variant", "v", "--scores", folder / "scores.json", "--errors", folder / "errors.jsonl"]
    given = json.dumps({"language": language, "score": SCORE | (score or {})})
    assert score_step([*map(str, [*words, *more]), "--settings", given]) == 0
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def make_run(results: Path, run: str, language: str, variants: dict, gates: dict | None = None, **more: str) -> Path:
    """Write a run's answers, likelihoods, curve and base manifest, and score and judge it with the real steps.

    `variants` maps a variant to (change of the expected answers, perplexity). Returns the run's folder.
    """
    folder = results / "runs" / run
    for variant, (_, perplexity) in variants.items():
        write_rows(folder / "likelihood" / f"{variant}.jsonl", likelihood_rows(language, perplexity))
    rows = {variant: answer_rows(language, change) for variant, (change, _) in variants.items()}
    return judge_run(results, run, language, rows, gates, **more)


def judge_run(
    results: Path,
    run: str,
    language: str | None,
    variants: dict,
    gates: dict | None = None,
    model: str = "base",
    reference: Path | None = None,
    test: Path | None = None,
    source: str = "hub",
    **score,
) -> Path:
    """Score and judge answers with the real steps, the last variant shipped; return the run's folder.

    `variants` maps a variant to its answers' rows, `reference` is the training split, `test` the test split, `source`
    that of the base model, `score` are settings of scoring.
    """
    from scripts.score.decide_verdict import main as decide
    from scripts.score.score_answers import main as score_step

    folder = results / "runs" / run
    for variant, rows in variants.items():
        answers = write_rows(folder / "answers" / f"{variant}.jsonl", rows)
        likelihood = folder / "likelihood" / f"{variant}.jsonl"
        likelihood = likelihood if likelihood.exists() else write_rows(likelihood, [])
        settings = json.dumps({"language": language, "score": SCORE | score})
        outputs = ["--scores", f"{folder}/scores/{variant}.json", "--errors", f"{folder}/errors/{variant}.jsonl"]
        names = ["--run", run, "--variant", variant, "--settings", settings]
        names += ["--reference", str(reference)] if reference else []
        names += ["--test", str(test)] if test else []
        if Path(score.get("votes") or "").is_file():
            names += ["--votes", score["votes"], "--rival", f"{folder}/answers/{next(iter(variants))}.jsonl"]
        assert not score_step([str(answers), str(likelihood), *names, *outputs])
    rows = [{"step": step, "epoch": step / 10, "loss": 4 / step, "learning_rate": 2e-4} for step in range(1, 30)]
    write_rows(folder / "curve.jsonl", [*rows, {"step": 29, "eval_loss": 0.4}])
    manifest = results / "models" / model / "manifest.json"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"source": source, "architecture": "mistral", "files": {}}))
    facts = {"dataset": "d", "group_by": None, "bootstrap": 1000, "seed": 0}
    settings = json.dumps({"gates": gates or {}, "shipped": list(variants)[-1], **facts})
    scores = [f"{folder}/scores/{variant}.json" for variant in variants]
    names = ["--run", run, "--base", str(manifest), "--settings", settings]
    assert not decide([*scores, *names, "--verdict", f"{folder}/verdict.json"])
    return folder
