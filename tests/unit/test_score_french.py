"""The heuristics for French: tenses and proper nouns, against sentences counted by hand."""

import json
from pathlib import Path

import pytest

from data.football.french_metrics import FORMS, first_group_present, proper_noun_counts, tense_counts
from scripts.common.metric_list import METRICS
from scripts.score.measure import add_metrics, measured
from scripts.score.read_scores import read_scores
from scripts.score.score_answers import main as score
from scripts.score.scoring_input import NotApplicableError, ScoringInput
from scripts.score.shown import shown
from tests.support.score_fixtures import SCORE, answer_rows, likelihood_rows, write_rows

FILE = Path("data/football/french_metrics.py")
# (sentence, verbs in the present, in the passé composé, in other tenses)
COUNTED = [
    ("Koné a marqué dès la 12' !", 0, 1, 0),
    ("Le gardien repousse le ballon en corner.", 1, 0, 0),
    ("Il entre dans la surface et frappe du gauche.", 2, 0, 0),
    ("Jovanic est entré en jeu à la place de Vidalot.", 0, 1, 0),
    ("Le défenseur est averti pour une faute sur Moreau.", 1, 0, 0),
    ("La passe de Ferrandi trouve Jovanic, qui reprend de volée.", 2, 0, 0),
    ("L'arbitre a-t-il sifflé ? Non, le jeu continue.", 1, 1, 0),
    ("Les Rivois ont déjà tiré trois fois et n'ont pas cadré.", 0, 2, 0),
    ("Il s'est blessé tout seul.", 0, 1, 0),
    ("Ils marqueront peut-être demain, disait le coach.", 0, 0, 2),
    ("Le but a été refusé pour hors-jeu.", 0, 1, 0),
    ("Une frappe, une marque, un centre : rien ne passe.", 1, 0, 0),
    ("Tu passes et tu gagnes, les passes comptent.", 3, 0, 0),
    ("Les ballons passent entre les lignes.", 1, 0, 0),
    ("Rien n'est fait, tout peut encore arriver.", 2, 0, 0),
    ("Nous avons vu un match que personne n'attendait.", 0, 1, 1),
    ("À l'est du stade, les supporters sont venus en nombre.", 0, 1, 0),
    ("Il le sert au second poteau.", 1, 0, 0),
    ("", 0, 0, 0),
]


@pytest.mark.parametrize(("sentence", "present", "passe_compose", "other"), COUNTED)
def test_tenses_are_counted_as_by_hand(sentence, present, passe_compose, other):
    assert tense_counts(sentence) == {"present": present, "passe_compose": passe_compose, "other": other}


def test_most_lines_of_the_example_commentary_have_a_verb_that_is_known():
    records = json.loads(Path("data/football/records.json").read_text(encoding="utf-8"))
    known = [any(tense_counts(record["text"]).values()) for record in records]
    assert sum(known) / len(known) > 0.75


def test_verbs_are_conjugated():
    assert first_group_present("lancer") == ["lance", "lances", "lançons", "lancez", "lancent"]
    assert first_group_present("dégager") == ["dégage", "dégages", "dégageons", "dégagez", "dégagent"]
    assert first_group_present("relever")[0] == "relève"
    assert first_group_present("appeler")[0] == "appelle"
    assert first_group_present("envoyer")[4] == "envoient"
    assert (FORMS["finissent"], FORMS["verra"], FORMS["tenait"]) == ("present", "other", "other")


def test_proper_nouns_are_capitalised_words_that_begin_no_sentence():
    text = "Lassana Koné lance Moreau. Le RC Rives mène ! « Allez Valmont », crie Jean-Pierre."
    # Koné, Moreau | RC, Rives | Valmont | Jean-Pierre follows a lower-case word in the same sentence
    assert proper_noun_counts(text) == (6, 12)


@pytest.fixture
def registry():
    """The metrics without those that a test adds."""
    before = dict(METRICS)
    yield METRICS
    METRICS.clear()
    METRICS.update(before)


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
    answers = write_rows(tmp_path / "answers.jsonl", answer_rows("fr"))
    known = write_rows(tmp_path / "likelihood.jsonl", likelihood_rows("fr"))
    words = [answers, known, "--run", "r", "--variant", "base", "--scores", tmp_path / "scores.json"]
    settings = json.dumps({"language": "fr", "score": SCORE | {"metrics_from": str(FILE)}})
    assert score([*map(str, words), "--errors", f"{tmp_path}/errors.jsonl", "--settings", settings]) == 0
    del registry["present_share"]
    scores = read_scores(tmp_path / "scores.json")
    assert 0 < scores["metrics"]["present_share"]["value"] < 1
    assert shown("present_share", 0.25) == "25.0 %"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("import no_such_package\n", ":5: ModuleNotFoundError: "),
        ("    return undefined\n", ":8: the metric own: NameError: "),
        ("    return MetricResult([[1.0]])\n", ": the metric own returned 1 rows for "),
        (
            "    return MetricResult([[float('nan')] for _ in data.answers])\n",
            ": the metric own returned a number that",
        ),
    ],
)
def test_a_metric_of_ones_own_that_fails_is_one_line_with_its_place(registry, tmp_path, capfd, body, fault):
    head = "from scripts.common.metrics import metric\nfrom scripts.score.scoring_input import MetricResult\n\n\n"
    function = '@metric("Own", direction="lower")\ndef own(data):\n    """Nothing."""\n'
    text = head + (function + body if body[0] == " " else body + function + "    return None\n")
    (tmp_path / "own.py").write_text(text)
    answers = write_rows(tmp_path / "answers.jsonl", answer_rows("fr"))
    known = write_rows(tmp_path / "likelihood.jsonl", likelihood_rows("fr"))
    words = [answers, known, "--run", "r", "--variant", "base", "--scores", tmp_path / "scores.json"]
    settings = json.dumps({"language": "fr", "score": SCORE | {"metrics_from": str(tmp_path / "own.py")}})
    assert score([*map(str, words), "--errors", f"{tmp_path}/errors.jsonl", "--settings", settings]) == 1
    said = capfd.readouterr().err
    assert f"{tmp_path}/own.py{fault}" in said
    assert "Traceback" not in said
