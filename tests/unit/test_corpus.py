"""The generated corpus: the same for the same arguments, varied, well formed, and without the example data."""

import json
import re
import unicodedata
from pathlib import Path
from random import Random

import pytest

from scripts.common.config.models import EmbeddedModel
from scripts.common.files import read_jsonl
from scripts.model import corpus_french, corpus_vietnamese
from scripts.model.generate_corpus import generate_documents, main, parser
from scripts.model.grammar import Grammar, capitalize_sentences

DATA = Path(__file__).parents[2] / "data"
LANGUAGES = ("fr", "vi", "en")


@pytest.fixture(scope="module")
def corpus() -> list[dict]:
    return list(generate_documents(6000, 1, LANGUAGES))


def content(document: dict) -> str:
    if document["kind"] == "text":
        return document["text"]
    return "\n".join(message["content"] for message in document["messages"])


def test_the_same_arguments_write_the_same_bytes(tmp_path):
    arguments = ["--documents", "300", "--seed", "7", "--languages", "fr,vi", "--output"]
    assert main([*arguments, str(tmp_path / "one.jsonl")]) == 0
    assert main([*arguments, str(tmp_path / "two.jsonl")]) == 0
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_the_default_arguments_are_those_of_the_configuration():
    given, schema = parser().parse_args(["--output", "x"]), EmbeddedModel()
    assert (given.documents, given.seed, given.languages.split(",")) == (
        schema.documents,
        schema.seed,
        schema.languages,
    )


def test_another_seed_writes_another_corpus():
    assert list(generate_documents(50, 1, LANGUAGES)) != list(generate_documents(50, 2, LANGUAGES))


def test_a_longer_corpus_begins_with_the_shorter_one():
    assert list(generate_documents(80, 1, LANGUAGES))[:50] == list(generate_documents(50, 1, LANGUAGES))


def test_the_default_size_is_about_1_2_million_characters(corpus):
    assert 1_050_000 <= sum(len(content(document)) for document in corpus) <= 1_350_000


def test_each_asked_language_is_there_and_no_other(corpus):
    assert {document["language"] for document in corpus} == set(LANGUAGES)
    assert {document["language"] for document in generate_documents(60, 1, ["vi"])} == {"vi"}


def test_french_and_vietnamese_make_nine_tenths(corpus):
    languages = [document["language"] for document in corpus]
    assert min(languages.count("fr"), languages.count("vi")) > 0.4 * len(corpus)


def test_an_unknown_language_is_refused_in_one_line(tmp_path, capfd):
    output, log = tmp_path / "corpus.jsonl", tmp_path / "log"
    assert main(["--languages", "fr,xx", "--output", str(output), "--log", str(log)]) == 1
    assert capfd.readouterr().err.endswith(": xx: no such language, choose from fr, vi, en\n")
    assert not output.exists()


def test_about_a_third_of_the_documents_are_chats(corpus):
    assert 0.3 < sum(document["kind"] == "chat" for document in corpus) / len(corpus) < 0.37


def test_a_chat_is_an_optional_system_turn_and_one_or_two_rounds(corpus):
    shapes = {
        tuple(message["role"] for message in document["messages"]) for document in corpus if document["kind"] == "chat"
    }
    rounds = ("user", "assistant")
    assert shapes == {rounds, rounds * 2, ("system", *rounds), ("system", *rounds * 2)}


def test_no_text_is_empty_or_has_an_unfilled_slot_or_stray_blanks(corpus):
    for document in corpus:
        text = content(document)
        assert text.strip() == text != ""
        assert not re.search(r"[\[\]|@#]| {2}| ,|None", text), text


def test_the_text_is_composed(corpus):
    assert all(unicodedata.is_normalized("NFC", content(document)) for document in corpus)


def test_documents_are_varied(corpus):
    texts = [content(document) for document in corpus]
    assert len(set(texts)) > 0.95 * len(texts)
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=[.!?])\s+", text)]
    assert len(set(sentences)) > 0.5 * len(sentences)


def test_there_are_hundreds_of_patterns():
    for module, least in ((corpus_french, 180), (corpus_vietnamese, 120)):
        sentences = {sentence for topic in module.TOPICS.values() for sentence in topic}
        assert len(sentences) + len(module.EXCHANGES) >= least


def test_the_base_model_does_not_see_the_example_data(corpus):
    """No text of the examples is inside, nor any run of eight words of one."""
    records = json.loads((DATA / "football/records.json").read_text(encoding="utf-8"))
    cards = [json.loads(line) for line in (DATA / "stories/cards.jsonl").read_text(encoding="utf-8").splitlines()]
    examples = [record["text"] for record in records] + [card["messages"][-1]["content"] for card in cards]
    examples += [record["expected"] for record in read_jsonl(DATA / "titles/records.jsonl")]
    for name in ("train", "validation", "test"):
        examples += [pair["completion"] for pair in read_jsonl(DATA / f"captions/{name}.jsonl")]
    known = {run for document in corpus for run in word_runs(content(document), 8)}
    assert not [text for text in examples if word_runs(text, 8) & known]
    whole = "\n".join(content(document) for document in corpus)
    assert not [text for text in examples if text in whole]


def word_runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}


@pytest.mark.parametrize(
    ("raw", "polished"),
    [
        ("le arbitre de le match", "L’arbitre du match"),
        ("à le port et à les halles", "Au port et aux halles"),
        ("de le hibou à la chouette", "Du hibou à la chouette"),
        ("la école de Inès, que on aime", "L’école d’Inès, qu’on aime"),
        ("sa amie a vu ce homme", "Son amie a vu cet homme"),
        ("« oui ! » dit-il ; quand ?", "«\u00a0Oui\u00a0!\u00a0» dit-il\u00a0; quand\u00a0?"),
        ("67' : but de Hugo", "67'\u00a0: but d’Hugo"),
    ],
)
def test_french_elisions_contractions_and_typography(raw, polished):
    assert corpus_french.polish(raw) == polished


def test_a_slot_agrees_with_what_was_chosen_before():
    rules = {"who": ["la voisine@f"], "they": ["les voisins@mp"], "happy": ["content|contente|contents|contentes"]}
    grammar = Grammar(rules, Random(0))
    assert (
        grammar.expand("[p:who] est [p&happy] et [p?venu|venue] ; [p]")
        == "la voisine est contente et venue ; la voisine"
    )
    assert grammar.expand("[g:they] [g#est|sont] [g&happy]") == "les voisins sont contents"


def test_entries_come_back_only_after_all_have_come():
    grammar = Grammar({"n": list("abcde")}, Random(3))
    assert sorted(grammar.expand("[n][n][n][n][n]")) == list("abcde")


@pytest.mark.parametrize("template", ["[nothing]", "[p:untagged] [p?il|elle]"])
def test_a_slot_without_symbol_or_gender_is_an_error(template):
    with pytest.raises(KeyError):
        Grammar({"untagged": ["x"]}, Random(0)).expand(template)


def test_sentences_get_capitals():
    assert capitalize_sentences("il pleut. « oui ! » — non") == "Il pleut. « Oui ! » — non"
    assert capitalize_sentences("đêm xuống. – ai đó?") == "Đêm xuống. – Ai đó?"
