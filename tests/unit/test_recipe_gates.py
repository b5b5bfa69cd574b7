"""What the football recipe's gates say of answers that nobody should be served."""

import json
import math
import random
import string
from pathlib import Path

import pytest
import yaml

from scripts.config.load import load_config
from scripts.config.sections import gates_of
from tests.support.score_fixtures import judge_run, record_rows, write_rows

ROOT = Path(__file__).parents[2]
CONFIG = load_config(yaml.safe_load((ROOT / "config/recipes/football.yaml").read_text(encoding="utf-8")))
GATES = gates_of(CONFIG, "football")
RAW = json.loads((ROOT / "data/football/records.json").read_text(encoding="utf-8"))[::9][:28]  # as many as are tested
STOCK = ("Le ballon sort en touche.", "Le gardien relance loin devant.", "Les deux équipes se neutralisent ce soir.")


def expected(place: int) -> str:
    """Return the expected answer."""
    return RAW[place]["text"]


def good(place: int) -> str:
    """Return an answer near the expected one."""
    return expected(place).rpartition(" ")[0]


def poor(place: int) -> str:
    """Return an answer that has a third of the expected one."""
    return expected(place)[: len(expected(place)) // 3]


def letters(place: int) -> str:
    """Return an answer of random letters."""
    source = random.Random(place)
    return " ".join("".join(source.choices(string.ascii_lowercase, k=5)) for _ in range(5 + place % 9))


def half_empty(place: int) -> str:
    """Return a good answer, or none."""
    return good(place) if place % 2 else ""


def stock(place: int) -> str:
    """Return one of three lines in rotation."""
    return STOCK[place % 3]


def verdict_on(folder: Path, shipped, perplexity: float, gates: dict | None = None) -> dict:
    """Score and judge answers by the recipe's settings; `shipped` gives those of q4_k_m."""
    answers = {"base": (poor, 40.0), "bf16": (good, 8.0), "q4_k_m": (shipped, perplexity)}
    rows = {}
    for variant, (answer, level) in answers.items():
        rows[variant] = [
            {
                "prompt_set": "test",
                "id": f"{place:016x}",
                "label": None,
                "messages": [{"role": "user", "content": f"Minute {raw['time']}"}],
                "expected": expected(place),
                "answer": answer(place),
                "stop": "end",
                "seconds": 0.5 + place / 100,
            }
            for place, raw in enumerate(RAW)
        ]
        likelihood = [
            {"id": row["id"], "nll": 20 * math.log(level) * (1 + place % 3 / 10), "tokens": 20, "characters": 80}
            for place, row in enumerate(rows[variant])
        ]
        write_rows(folder / f"runs/football/likelihood/{variant}.jsonl", likelihood)
    columns = {name: [raw[name] for raw in RAW] for name in ("url", "time")}
    test = write_rows(folder / "test.jsonl", record_rows(rows["base"], **columns))
    metrics = sorted({gate["metric"] for gate in GATES.values()})
    score = {"metrics": metrics, "order_by": CONFIG.runs["football"].score.order_by}
    judge_run(folder, "football", "fr", rows, gates or GATES, test=test, **score)
    return json.loads((folder / "runs/football/verdict.json").read_text(encoding="utf-8"))


def test_good_answers_pass_every_gate_that_28_records_can_decide(tmp_path):
    found = {gate["name"]: gate["passed"] for gate in verdict_on(tmp_path, good, 8.1)["gates"]}
    assert {name for name, passed in found.items() if not passed} <= {"football_speed", "football_human"}


@pytest.mark.parametrize(
    ("shipped", "perplexity", "verdict", "failed"),
    [
        (letters, 8762.0, "rollback", ["football_learned", "quantization"]),
        (half_empty, 8.1, "hold", ["football_finished"]),
        (stock, 8.1, "rollback", ["football_repetition", "football_stock_lines"]),
    ],
)
def test_bad_answers_of_what_is_shipped_are_not_promoted(tmp_path, shipped, perplexity, verdict, failed):
    found = verdict_on(tmp_path, shipped, perplexity)
    gates = {gate["name"]: gate for gate in found["gates"]}
    assert found["verdict"] == verdict
    assert {name: gates[name]["passed"] for name in failed} == dict.fromkeys(failed, False)
    if shipped is stock:
        assert gates["football_stock_lines"]["value"] == pytest.approx(25 / 28)


def test_a_run_whose_gates_of_quality_are_on_another_variant_is_not_promoted(tmp_path):
    gates = {"learned": {**GATES["football_learned"], "variant": "bf16"}, "finished": GATES["football_finished"]}
    found = verdict_on(tmp_path, good, 8.1, gates)
    assert (found["verdict"], [gate["passed"] for gate in found["gates"]]) == ("hold", [True, True])
    assert "no gate is on a quality metric of q4_k_m" in found["reason"]
