"""The heuristics for French: tenses and proper nouns, against sentences counted by hand."""

from pathlib import Path

import pytest

from data.football.french_metrics import proper_noun_counts, tense_counts
from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.score.measure import add_metrics, measured
from scripts.score.read_scores import read_scores
from scripts.score.scoring_input import NotApplicableError, ScoringInput
from scripts.score.shown import shown
from tests.support.data import load
from tests.support.score_fixtures import answer_rows, likelihood_rows, scored

FILE = Path("data/football/french_metrics.py")


@pytest.mark.parametrize(("sentence", "present", "passe_compose", "other"), load("french_tenses.yaml"))
def test_tenses_are_counted_as_by_hand(sentence, present, passe_compose, other):
    assert tense_counts(sentence) == {"present": present, "passe_compose": passe_compose, "other": other}


def test_most_lines_of_the_example_commentary_have_a_verb_that_is_known():
    records = read_json(Path("data/football/records.json"))
    known = [any(tense_counts(record["text"]).values()) for record in records]
    assert sum(known) / len(known) > 0.75


def test_proper_nouns_are_capitalised_words_that_begin_no_sentence():
    # Koné, Moreau | RC, Rives | Valmont | Jean-Pierre follows a lower-case word in the same sentence
    text = "Lassana Koné lance Moreau. Le RC Rives mène ! « Allez Valmont », crie Jean-Pierre."
    assert proper_noun_counts(text) == (6, 12)


def test_shares_are_of_the_verbs_found_and_only_for_french(registry):
    rows = [{**answer_rows("fr")[0], "answer": text} for text in ("Il tire et a marqué.", "But !", "Il tire.")]
    add_metrics(FILE)
    french = ScoringInput(rows, "fr")
    assert measured("present_share", french).rows == [[1, 2], None, [1, 1]]
    assert measured("passe_compose_share", french).rows == [[1, 2], None, [0, 1]]
    with pytest.raises(NotApplicableError, match="the language is vi"):
        measured("present_share", ScoringInput(rows, "vi"))
    with pytest.raises(NotApplicableError, match="no answer has a finite verb"):
        measured("present_share", ScoringInput(rows[1:2], "fr"))


def test_a_recipes_own_metrics_are_scored_and_known_to_who_reads_the_scores(registry, tmp_path):
    scored(tmp_path, answer_rows("fr"), likelihood_rows("fr"), score={"metrics_from": str(FILE)})
    del registry["present_share"]
    scores = read_scores(tmp_path / "scores.json")
    assert 0 < scores["metrics"]["present_share"]["value"] < 1
    assert shown("present_share", 0.25) == "25.0 %"


HEAD = "from scripts.score.metrics import metric\nfrom scripts.score.scoring_input import MetricResult\n\n\n"
FUNCTION = '@metric("Own", direction="lower")\ndef own(data):\n    """Nothing."""\n'


def test_a_metric_of_ones_own_has_to_return_a_row_for_each_answer(registry, tmp_path):
    (tmp_path / "own.py").write_text(f"{HEAD}{FUNCTION}    return MetricResult([[1.0]])\n")
    with pytest.raises(UserError, match="the metric own returned 1 rows for "):
        measured(*add_metrics(tmp_path / "own.py"), ScoringInput(answer_rows("fr"), "fr"))
