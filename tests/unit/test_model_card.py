"""The model card says what a reader has to know before trusting the model; whole cards are in test_deploy_bundle.py."""

import pytest

from scripts.config.runs import Run
from scripts.deploy.model_card import model_card
from tests.support.bundles import bundle_settings

WORDING = "Caption this{% if label %} ({{ label }}){% endif %}: {{ prompt }}"
BASE = {"source": "hub", "architecture": "mistral", "revision": "abc"}
VERDICT = {"verdict": "ship", "reason": "all passed", "gates": [], "shipped": "q8_0"}
PARITY = {
    "conversations": {"equal": 3}, "modelfile": {"equal": 3}, "divergence": {"mean": 0.01, "max": 0.1},
    "shape": {"system": "in_place", "trims": []},
}  # fmt: skip
OWN = {
    "title": "tiny", "license": "MIT", "shipped": "q8_0", "header": {"general.size_label": "1M"}, "file_name": "a.gguf",
    "stem": "tiny", "types": "q8_0", "lacking": None, "is_as_scored": True, "has_no_break_spaces": False,
    "opening": [],
}  # fmt: skip


def card(
    run: dict | None = None, base: dict | None = None, shape: dict | None = None, verdict: dict = VERDICT, **own
) -> str:
    """Return the card of a chat model without scores."""
    section = Run.model_validate({"dataset": "d", "model": "m"} | (run or {})).model_dump(mode="json")
    settings = bundle_settings("captions", section, "models/m", {"files": ["a.jsonl"], "format": "messages"})
    parity = {**PARITY, "shape": PARITY["shape"] | (shape or {})}
    return model_card(settings, BASE | (base or {}), "m", [], verdict, **{**OWN, "parity": parity, **own})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base": {"template_date": "2025-03-07"}}, "writes a fixed date, 2025-03-07, as in training"),
        ({"shape": {"system": "none"}, "lacking": "All of it"}, "has no place for a system message"),
        ({"shape": {"system": "last_message"}}, "shows the system message in the last user message only"),
        ({"shape": {"trims": ["user"]}}, "strips white space around messages (user)"),
        ({"run": {"deploy": {"limits": "Knows\nlittle."}}}, "- Knows little.\n"),
        ({"verdict": {**VERDICT, "diverged": "the | it"}}, "# tiny\n\n**Not for use.** The \\| it.\n\n"),
        ({"lacking": "1 of 2 questions"}, "- 1 of 2 questions: the served prompts differ from the scored ones."),
    ],
)
def test_the_card_says_what_limits_the_model_where_it_does(change, said):
    assert said in card(**change)
    assert said not in card()


def test_the_card_names_the_strategy_and_its_wording_and_whether_it_was_scored_so():
    run = {"strategies": {"plain": {}, "loud": {"system": "You shout.", "user": WORDING}}, "strategy": "loud"}
    text = card(run)
    assert "are those of" in text
    assert "prompt strategy `loud`" in text
    assert f"```jinja\n{WORDING}\n```\n\n## Results\n" in text
    assert "so their answers may differ" in card(run, is_as_scored=False)
    assert "```jinja" not in card(run | {"strategy": "plain"})
    assert "strategy" not in card()


def test_a_class_without_test_records_is_in_the_table_of_a_token_classifier():
    errors = dict.fromkeys(("missed", "false_positive", "wrong_type", "wrong_boundary"), 0)
    found = {"classes": {"CITY": {"support": 1, "recall": {"value": 0.5, "low": None}}}, "untested": ["IBAN"]}
    scores = {"variant": "merged", "records": 1, "by_label": {}, "entities": {**found, "errors": errors}}
    scores |= {"answer_kind": "entities", "asked": None, "metrics": {}, "people": None}
    run = {"dataset": "d", "model": "m", "task": "token_classification", "method": "lora"}
    settings = bundle_settings(
        "pii", Run.model_validate(run).model_dump(mode="json"), "m", {"files": ["a"], "format": "spans"}
    )
    head = {"layer": 1, "base_layers": 2}
    own = {"title": "pii", "license": "MIT", "shipped": "merged", "head": head, "classes": ["CITY"]}
    text = model_card(settings, BASE, "m", [scores], VERDICT, **own)
    assert "| CITY | 1 | – | 50.0 % | – |\n| IBAN | 0 | no test records | | |\n" in text
    assert "and a LoRA of the base, on m at `abc`. It ends at layer 1 of the base's 2.\n" in text
