"""Heuristics for French: which tenses a text is told in, and how often it names someone or something.

No parser: closed lists of auxiliaries and of common verbs, conjugated by rule (scripts/score/french_verbs.py), and the
word before to tell a verb from a noun (`il marque`, `la marque`). What is not listed is not counted.
"""

import functools

import regex

from scripts.common.language import language_of
from scripts.score.french_verbs import ETRE_PARTICIPLES, FORMS, PARTICIPLES
from scripts.score.material import Material, Measured, NotApplicableError
from scripts.score.tokenize_text import words


def listed(text: str) -> frozenset[str]:
    """Return the words of a list written as text."""
    return frozenset(text.split())


AVOIR = listed("ai as a avons avez ont")
ETRE = listed("suis es est sommes êtes sont")
BETWEEN = listed(
    "pas plus jamais rien guère point bien mal déjà encore toujours enfin aussi donc alors ensuite tout trop très peu "
    "vite même presque souvent parfois aussitôt finalement beaucoup d'abord mieux seulement"
)
REFLEXIVE = listed("s' se m' me t' te nous vous")
NOMINAL = listed(  # after one of these stands a noun, not a finite verb
    "le la les l' un une des du de d' au aux ce cet cette ces mon ma mes ton ta tes son sa ses notre nos votre "
    "vos leur  leurs chaque quel quelle quels quelles quelque quelques plusieurs aucun aucune deux trois quatre "
    "cinq six sept huit  neuf dix par pour sans avec sur dans sous en à premier première second seconde dernier "
    "dernière bon bonne belle  grand grande petit petite nouveau nouvelle longue double"
)
SUBJECTS = listed("je j' tu il elle on nous vous ils elles qui ça cela ce c' -t-il -t-elle -t-on ne n'")
CLITICS = listed("le la les l' lui leur en y")
PLACES = listed("dans en à au aux sur pour")
SENTENCE = regex.compile(r"[.!?…:;]+[\s»\"”)]*|\n+|^\s*[-–—*•]\s*|[«“\"(]\s*", regex.MULTILINE)
CAPITALISED = regex.compile(r"\p{Lu}[\p{L}\p{M}'-]*")


def tense_counts(text: str) -> dict[str, int]:
    """Return how many finite verbs of a French text are found in each tense.

    Keys: `present`, `passe_compose`, `other` (imperfect, future, conditional, pluperfect).
    """
    original = words(text, "fr")
    tokens = [word.lower() for word in original]
    counts = {"present": 0, "passe_compose": 0, "other": 0}
    position = 0
    while position < len(tokens):
        word = tokens[position]
        end = position + 1
        if word in AVOIR | ETRE and not is_nominal(tokens, position):
            tense, end = verb_group(tokens, position)
            counts[tense] += 1
        elif (tense := FORMS.get(word)) and not is_nominal(tokens, position) and is_finite(tokens, original, position):
            counts[tense] += 1
        position = end
    return counts


def is_nominal(tokens: list[str], position: int) -> bool:
    """Say whether the word before makes this one a noun; `il le marque` is none, for a subject stands before `le`."""
    before = tokens[position - 1] if position else ""
    if before not in NOMINAL:
        return False
    earlier = tokens[position - 2] if position > 1 else ""
    pronoun = before in CLITICS and earlier in SUBJECTS
    return not (pronoun or (before == "en" and tokens[position] in AVOIR | ETRE))


def is_finite(tokens: list[str], original: list[str], position: int) -> bool:
    """Say whether a form that may be something else (`entre`, `tu passes`) is a verb here."""
    word = tokens[position]
    if word == "entre":
        return position + 1 < len(tokens) and tokens[position + 1] in PLACES
    if word.endswith("es") and word not in ("es", "êtes", "sommes", "faites", "dites"):
        return "tu" in tokens[max(0, position - 2) : position]
    return not (position and original[position][0].isupper())


def verb_group(tokens: list[str], position: int) -> tuple[str, int]:
    """Return the tense of an auxiliary with what follows it, and where that ends.

    `a marqué`, `a été refusé`: passé composé. With `être` only for the verbs that form it so and for reflexive ones:
    `est sanctionné` is a passive in the present. Without a participle the auxiliary is a verb of its own.
    """
    index = position + 1
    while index < len(tokens) and (
        tokens[index] in BETWEEN or tokens[index].endswith("ment") or tokens[index].startswith("-")
    ):
        index += 1
    if index >= len(tokens) or not is_participle(tokens[index]):
        return "present", position + 1
    if tokens[position] in ETRE:
        reflexive = position > 0 and tokens[position - 1] in REFLEXIVE
        return "passe_compose" if reflexive or tokens[index] in ETRE_PARTICIPLES else "present", index + 1
    passive = tokens[index] == "été" and index + 1 < len(tokens) and is_participle(tokens[index + 1])
    return "passe_compose", index + (2 if passive else 1)


def is_participle(word: str) -> bool:
    """Say whether a word looks like a past participle: a listed one, or one in -é."""
    return word in PARTICIPLES or bool(regex.fullmatch(r"\p{L}{2,}é(?:e|s|es)?", word))


def proper_noun_counts(text: str) -> tuple[int, int]:
    """Return (capitalised words that begin no sentence, all words) of a French text."""
    total = named = 0
    for sentence in SENTENCE.split(text):
        found = words(sentence, "fr")
        total += len(found)
        named += sum(bool(CAPITALISED.fullmatch(word)) and not word.endswith("'") for word in found[1:])
    return named, total


def french_only(material: Material) -> None:
    """Raise NotApplicableError when the language is not French."""
    language = language_of(material.language)
    if language != "fr":
        raise NotApplicableError(f"a heuristic for French; the language is {material.language or 'not given'}")


@functools.cache
def counts_of(text: str) -> tuple[int, int, int]:
    """Return (present, passé composé, all finite verbs found) of a text."""
    counts = tense_counts(text)
    return counts["present"], counts["passe_compose"], sum(counts.values())


def tense_share(material: Material, column: int) -> Measured:
    """Return (verbs in the tense, finite verbs found) per answer that has any."""
    french_only(material)
    counts = [counts_of(text) for text in material.texts]
    if not any(total for *_, total in counts):
        raise NotApplicableError("no answer has a finite verb that the heuristic knows")
    return Measured([[row[column], row[2]] if row[2] else None for row in counts])


def present_share(material: Material) -> Measured:
    """Return the statistics of the present's share of the finite verbs found."""
    return tense_share(material, 0)


def passe_compose_share(material: Material) -> Measured:
    """Return the statistics of the passé composé's share of the finite verbs found."""
    return tense_share(material, 1)


def proper_noun_rate(material: Material) -> Measured:
    """Return (proper nouns found, words) per answer that has any word."""
    french_only(material)
    counts = [proper_noun_counts(text) for text in material.texts]
    if not any(total for _, total in counts):
        raise NotApplicableError("no answer has a word")
    return Measured([list(row) if row[1] else None for row in counts])
