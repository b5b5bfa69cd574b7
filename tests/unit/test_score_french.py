"""Words as the language has them, and the heuristics for French against sentences counted by hand."""

import unicodedata
from pathlib import Path

import pytest

from data.football.french_metrics import proper_noun_counts, tense_counts
from scripts.common.errors import UserError
from scripts.score.measure import add_metrics, measured
from scripts.score.metrics import METRICS
from scripts.score.read_scores import read_scores
from scripts.score.scoring_input import NotApplicableError, ScoringInput
from scripts.score.shown import shown
from scripts.score.statistics import row_fault
from scripts.score.tokenize_text import match_normalised, words
from tests.benchmarks.statistics import bench_french_tense
from tests.support.data import load
from tests.support.score_fixtures import answer_rows, likelihood_rows, scored

FILE = Path("data/football/french_metrics.py")


@pytest.mark.parametrize(("language", "text", "expected"), load("words.yaml"))
def test_words_are_those_of_the_language_and_in_nfc(language, text, expected):
    assert words(text, language) == words(unicodedata.normalize("NFD", text), language) == expected.split()


def test_normalised_comparison_forgets_case_and_punctuation_but_no_accent():
    assert match_normalised("L’Élan, gagné !", "l'élan  GAGNÉ", "fr")
    assert not match_normalised("élan", "elan", "fr")


def test_normalised_comparison_reads_long_texts_to_their_ends():
    text = " ".join(f"mot{number}" for number in range(40))
    assert match_normalised(f"« {text} »", text.upper().replace(" ", ", "), "fr")
    assert not match_normalised(text, f"{text} mot", "fr")
    assert not match_normalised(text, text.replace("mot39", "mots"), "fr")
    assert not match_normalised("", text, "fr")


@pytest.mark.parametrize(("sentence", "present", "passe_compose", "other"), load("french_tenses.yaml"))
def test_tenses_are_counted_as_by_hand(sentence, present, passe_compose, other):
    assert tense_counts(sentence) == {"present": present, "passe_compose": passe_compose, "other": other}


def test_tenses_of_sentences_that_the_rules_were_not_made_with_are_mostly_found():
    for tense, (recall, precision, verbs) in bench_french_tense.measured("held_out").items():
        assert verbs >= 30
        assert recall >= 0.8, tense
        assert precision >= 0.9, tense


def test_proper_nouns_are_capitalised_words_that_begin_no_sentence():
    # Koné, Moreau | RC, Rives | Valmont | Jean-Pierre follows a lower-case word in the same sentence
    text = "Lassana Koné lance Moreau. Le RC Rives mène ! « Allez Valmont », crie Jean-Pierre."
    assert proper_noun_counts(text) == (6, 12)


@pytest.mark.usefixtures("registry")
def test_shares_are_of_the_verbs_found_and_only_for_french():
    rows = [{**answer_rows("fr")[0], "answer": text} for text in ("Il tire et a marqué.", "But !", "Il tire.")]
    add_metrics(FILE)
    french = ScoringInput(rows, "fr")
    assert measured("present_share", french).rows == [[1, 2], None, [1, 1]]
    assert measured("passe_compose_share", french).rows == [[1, 2], None, [0, 1]]
    for answers, language, why in (
        (rows, "vi", "the language is vi"),
        (rows[1:2], "fr", "no answer has a finite verb"),
    ):
        with pytest.raises(NotApplicableError, match=why):
            measured("present_share", ScoringInput(answers, language))


def test_a_recipes_own_metrics_are_scored_and_known_to_who_reads_the_scores(registry, tmp_path):
    scored(tmp_path, answer_rows("fr"), score={"metrics_from": str(FILE)})
    del registry["present_share"]
    scores = read_scores(tmp_path / "scores.json")
    assert 0 < scores["metrics"]["present_share"]["value"] < 1
    assert shown("present_share", 0.25) == "25.0 %"


HEAD = "from scripts.score.metrics import metric\nfrom scripts.score.scoring_input import MetricResult\n\n\n"
FUNCTION = '@metric("Own", direction="lower")\ndef own(data):\n    """Nothing."""\n'


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return MetricResult([[1.0]])", " the metric own returned 1 rows for 8 answers"),
        ("return MetricResult([[1.0]] * 8, [1.0])", " the metric own returned 1 rows for 8 answers"),
        ("return MetricResult([[1.0]] * 7 + [[1e999]])", " the metric own returned a number that is not finite"),
        ("return MetricResult([None] * 8, [-1e999] * 8)", " the metric own returned a number that is not finite"),
        ("return MetricResult([['a']] * 8)", " the metric own: ValueError: could not convert string to float: 'a'"),
        ("return MetricResult([[]] * 8)", " the metric own returned a row of 0 numbers; the statistic 'mean' takes 1"),
        ("return [[1.0]] * 8", " the metric own: AttributeError: 'list' object has no attribute 'rows'"),
        ("return {}['gold']", "8: the metric own: KeyError: 'gold'"),
        ("raise ValueError('no\\n  gold')", "8: the metric own: ValueError: no gold"),
    ],
)
def test_an_error_of_a_metric_of_ones_own_names_the_metric_and_its_file(tmp_path, monkeypatch, body, said):
    monkeypatch.chdir(tmp_path)
    own = Path("config/own.py")
    own.parent.mkdir()
    own.write_text(f"{HEAD}{FUNCTION}    {body}\n")
    with pytest.raises(UserError) as caught:
        measured(*add_metrics(own), ScoringInput(answer_rows("fr"), "fr"))
    assert str(caught.value).startswith(f"{own}:{said}")


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("statistic", "rows", "said"),
    [
        ("mean", "[[1, 2]] * 8", "a row of 2 numbers; the statistic 'mean' takes 1"),
        ("p95", "[[1]] * 7 + [[1, 2]]", "a row of 2 numbers; the statistic 'p95' takes 1"),
        ("ratio", "[[1]] * 8", "a row of 1 number; the statistic 'ratio' takes 2"),
        ("bleu", "[[1, 2]] * 8", "a row of 2 numbers; the statistic 'bleu' takes 10"),
        ("f1", "[[1, 2, 3] * 2] * 8", "a row of 6 numbers; the statistic 'f1' takes 3"),
        ("f1_macro", "[[1, 2]] * 8", "a row of 2 numbers; the statistic 'f1_macro' takes 3 for each class"),
        ("f1_macro", "[[]] * 8", "a row of 0 numbers; the statistic 'f1_macro' takes 3 for each class"),
        ("f1_macro", "[[1, 2, 3]] * 7 + [[1, 2, 3] * 2]", "rows of different lengths; give each record the same"),
        ("yes_no", "[None] * 7 + [[3.0]]", "3; the statistic 'yes_no' takes numbers from 0 to 1"),
    ],
)
def test_rows_that_do_not_fit_the_statistic_of_a_metric_of_ones_own_are_refused(tmp_path, statistic, rows, said):
    own = tmp_path / "own.py"
    function = FUNCTION.replace('"lower"', f'"lower", statistic="{statistic}"')
    own.write_text(f"{HEAD}{function}    return MetricResult({rows})\n")
    with pytest.raises(UserError) as caught:
        measured(*add_metrics(own), ScoringInput(answer_rows("fr"), "fr"))
    assert str(caught.value).startswith(f"{own}: the metric own returned {said}")


def test_metrics_of_the_workflow_return_the_columns_of_their_statistic():
    data = ScoringInput(answer_rows("fr"), "fr", likelihood={row["id"]: row for row in likelihood_rows("fr", 9.0)})
    for name in ("bleu", "chrf", "exact_match", "length_mean", "length_variation", "perplexity", "seconds_p50"):
        assert {row_fault(METRICS[name].statistic, row) for row in measured(name, data).rows} == {None}, name


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("is_relative", [False, True])
def test_a_file_of_metrics_that_fails_when_it_is_imported_is_named_with_its_line(tmp_path, monkeypatch, is_relative):
    monkeypatch.chdir(tmp_path)
    own = Path("own.py") if is_relative else tmp_path / "own.py"
    own.write_text(f"import unheard_of\n{HEAD}{FUNCTION}    return 1\n")
    with pytest.raises(UserError) as caught:
        add_metrics(own)
    assert str(caught.value) == f"{own}:1: ModuleNotFoundError: No module named 'unheard_of'"


@pytest.mark.usefixtures("registry")
def test_the_numbers_of_a_metric_of_ones_own_are_written_as_floats(tmp_path):
    own = tmp_path / "own.py"
    body = "    return MetricResult([np.ones(1, int)] * 8, np.zeros(8, int))\n"
    own.write_text(f"import numpy as np\n{HEAD}{FUNCTION}{body}")
    scores = scored(tmp_path, answer_rows("fr"), score={"metrics_from": str(own)})
    assert (scores["statistics"]["own"], scores["per_record"]["own"]) == ([[1.0]] * 8, [0.0] * 8)
    assert scores["metrics"]["own"]["value"] == 1.0
