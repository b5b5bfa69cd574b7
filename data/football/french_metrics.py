"""Metrics of French texts: which tenses a text is told in, and how often it names someone or something.

Rough heuristics without a parser. A finite verb is known by its ending (`marquaient`, `marquera`), by a subject before
it (`il crucifie`), by what stands around it, or from a list of common verbs; the word before tells a verb from a noun
(`il marque`, `la marque`). `python -m tests.benchmarks.statistics.bench_french_tense` measures them. A configuration
takes the metrics by `score.metrics_from: data/football/french_metrics.py`.
"""

import functools
import itertools
from collections import Counter

import regex

from scripts.score.metrics import metric
from scripts.score.scoring_input import MetricResult, NotApplicableError, ScoringInput
from scripts.score.tokenize_text import words

FIRST_GROUP = """
accélérer accepter accompagner accorder accrocher adresser aider aimer ajouter ajuster amener appeler appliquer appuyer
apporter armer arracher arrêter arriver assurer attaquer avancer baisser bloquer botter bousculer cadrer centrer changer
chanter chercher claquer commencer commander compter concéder contrôler coller comporter continuer contester couper
crocheter créer crier dégager déborder décider déclencher décocher dégainer demander demeurer dépasser déposer dévier
devancer discuter disputer distiller dominer donner dribbler échanger échapper écarter échouer éliminer effacer égaliser
emmener encaisser enchaîner enrouler entraîner entrer envoyer essayer espérer éviter exécuter expliquer exploser
expulser filer forcer frapper frôler gagner garder gêner glisser heurter hésiter hurler imposer insister intercepter
jeter jouer laisser lancer lever libérer lober louper manquer marcher marquer mener menacer monter montrer négocier
observer obliger occuper opérer oublier parler passer payer penser percuter placer plonger porter pousser précipiter
préférer prolonger procéder profiter protester provoquer raconter ramener rater rappeler regarder rejeter relancer
relever remarquer remonter remplacer rentrer repousser résister respecter rester retomber retourner réaliser récupérer
réclamer régaler rêver sauter sauver secouer sembler siffler signaler signer souffler souligner stopper tacler tenter
terminer tirer tomber toucher tourner transformer travailler traverser tromper trouver trembler utiliser valider
vérifier viser voler expédier remiser éloigner anticiper ponctuer décaler enfoncer capter boxer alerter annoncer buter
chiper confirmer engager gérer indiquer presser protéger reculer
"""
SECOND_GROUP = """
agir bondir choisir définir élargir faiblir faillir finir fournir grandir investir jaillir punir ralentir réagir remplir
réunir réussir saisir subir surgir trahir
"""
# Third persons of the present, stem of the passé simple, and participle; then how verbs with these endings begin.
IRREGULAR = """
d dent di du: atten défen descen déten enten éten per ren répon ten ven suspen
t tent ti ti: sor par sen repar ressor
int ignent igni int: atte cra éte rejo contra pla
uit uisent uisi uit: cond réd prod constr
vre vrent vri vert: ou cou décou recou
ffre ffrent ffri ffert: o sou
vient viennent vin venu: - re de par inter sur pré con
tient tiennent tin tenu: - re ob main dé con sou
prend prennent pri pris: - re sur com ap
met mettent mi mis: - re per pro com trans ad
bat battent batti battu: - com a
court courent couru couru: - par ac re
çoit çoivent çu çu: re aper dé con
voit voient vi vu: - re pré
dit disent di dit: - re inter
crit crivent crivi crit: é ins dé
clut cluent clu clu: con ex
aît aissent u u: conn par dispar app reconn
suit suivent suivi suivi: - pour
sert servent servi servi: - des
dort dorment dormi dormi: - en
fuit fuient fui fui: - en
fait font fi fait: - re dé
est sont fu été: -
a ont eu eu: -
peut peuvent pu pu: -
veut veulent voulu voulu: -
sait savent su su: -
doit doivent du dû: -
vaut valent valu valu: -
faut faut fallu fallu: -
plaît plaisent plu plu: -
croit croient cru cru: -
lit lisent lu lu: - re
rit rient ri ri: - sou
vit vivent vécu vécu: -
meurt meurent mouru mort: -
naît naissent naqui né: -
convainc convainquent convainqui convaincu: -
"""
WITH_ETRE = """
allé arrivé descendu devenu entré intervenu monté mort né parti parvenu passé remonté rentré reparti resté retombé
retourné revenu sorti tombé venu
"""


def agreed(participle: str) -> set[str]:
    """Return a past participle in its four forms."""
    plain = "du" if participle == "dû" else participle
    return {participle, plain + "e", plain + "es", participle if participle.endswith("s") else plain + "s"}


def first_group(infinitive: str) -> tuple[list[str], list[str]]:
    """Return the third persons of a verb in -er, in the present and in the passé simple."""
    stem = infinitive[:-2]
    soft = {"g": stem + "e", "c": stem[:-1] + "ç"}.get(stem[-1], stem)
    if infinitive in ("appeler", "rappeler", "jeter", "rejeter"):
        stressed = stem + stem[-1]
    elif stem[-2] in "eé" and stem[-1] in "cdgmnrtv":
        stressed = stem[:-2] + "è" + stem[-1]
    elif stem.endswith(("oy", "uy")):
        stressed = stem[:-1] + "i"
    else:
        stressed = stem
    return [stressed + "e", stressed + "ent"], [soft + "a", stem + "èrent"]


def all_forms() -> tuple[dict[str, str], set[str]]:
    """Return (form to tense, past participles) of the listed verbs in the third persons."""
    present: list[str] = []
    past: list[str] = []
    participles: set[str] = set()
    for infinitive in FIRST_GROUP.split():
        now, then = first_group(infinitive)
        present += now
        past += then
    for infinitive in SECOND_GROUP.split():
        present += [infinitive[:-1] + "t", infinitive[:-1] + "ssent"]
        participles |= agreed(infinitive[:-1])
    for line in IRREGULAR.strip().splitlines():
        endings, beginnings = line.split(": ")
        one, several, then, participle = endings.split()
        for beginning in beginnings.replace("-", "").split(" "):
            present += [beginning + one, beginning + several]
            past += [beginning + then + end for end in ("t", "rent")]
            participles |= agreed(beginning + participle)
    return {**dict.fromkeys(past, "other"), **dict.fromkeys([*present, "va", "vont"], "present")}, participles


def listed(text: str) -> frozenset[str]:
    """Return the words of a list written as text."""
    return frozenset(text.split())


FORMS, PARTICIPLES = all_forms()
ETRE_PARTICIPLES = frozenset(form for participle in WITH_ETRE.split() for form in agreed(participle))
AVOIR = listed("ai as a avons avez ont")
ETRE = listed("suis es est sommes êtes sont")
SUBJUNCTIVE = listed("soit soient ait fasse fassent puisse puissent aille aillent dise mette prenne vienne eût fût")
# Endings of the imperfect, conditional, future and passé simple; further ones are clear only after a subject.
OTHER = regex.compile(r"\p{L}*(?:aient|èrent|ait)|(?:\p{L}{2,}[eidvru]|[sf]e|au|i)r(?:a|ont)")
OTHER_OF_SUBJECT = regex.compile(r"(?!connais|fais|sais|vais)\p{L}+(?:ais|ions|iez|r(?:ai|as|a)|[edvr]r(?:ons|ez))")
NO_VERBS = listed("trait retrait portrait parfait attrait extrait souhait forfait satisfait lait")
# Between an auxiliary and its participle; `d'abord`, `tout de suite` and the like in their words.
BETWEEN = listed(
    "pas plus jamais rien guère point bien mal déjà encore toujours enfin aussi donc alors ensuite tout tous toutes "
    "trop très peu vite même presque souvent parfois aussitôt beaucoup mieux plutôt longtemps seulement pourtant d' "
    "de à abord suite nouveau peine emblée coup fois"
)
SUBJECTS = listed("je j' tu il elle on ils elles qui ça cela")
REFLEXIVE = listed("s' se m' me t' te")
ONLY_BEFORE_VERBS = REFLEXIVE | listed("ne n'")
CLITICS = ONLY_BEFORE_VERBS | listed("le la les l' lui leur en y nous vous")
ARTICLES = listed("le la les l' un une des du son sa ses leur leurs ce cette ces")
NOMINAL = ARTICLES | listed(  # after one of these stands a noun, not a finite verb
    "de d' au aux cet mon ma mes ton ta tes notre nos votre vos chaque quel quelle quels quelles quelque quelques "
    "plusieurs aucun aucune deux trois quatre cinq six sept huit neuf dix par pour sans avec sur dans sous en à "
    "premier première second seconde dernier dernière bon bonne belle grand grande petit petite nouveau nouvelle "
    "longue double"
)
MASCULINE = listed(
    "cadre calme centre change compte contre contrôle dribble double fait manque reste rêve signe sort souffle tacle"
)
FUNCTION = listed(
    "après autre avant ce comme contre depuis derrière dès entre et lorsque mais parce puisque que quinze toute"
)
CLOSED = NOMINAL | CLITICS | SUBJECTS | BETWEEN | FUNCTION | AVOIR | ETRE
PLACES = listed("dans en à au aux sur pour")
PREPOSITIONS = PLACES | listed("de d' du par vers avec depuis sans")
# Forms of avoir and être. A participle after one is not counted again: `avait fait`, `sera dit`, `après avoir mis`.
AUXILIARY = regex.compile(
    r"ai|as|a|avons|avez|ont|suis|es|est|sommes|êtes|sont|avoir|être|ayant|étant|soit|soient|f[uû]t|e[uû]t|furent|eurent"
    r"|(?:av|aur|ét|ser)(?:ais|ait|ions|iez|aient|ai|as|a|ons|ez|ont)"
)
# Infinitives and participles.
NOT_FINITE = regex.compile(r"(?:er|ir|oir|[dtiv]re|ant|ées?|és?)$")
BEFORE_QUE = listed("afin avant bien faut faudrait pour pourvu sans")
CLAUSE = regex.compile(r"[.!?…:;,()«»“”\"–—]+(?!\p{N})|\n+")
SENTENCE = regex.compile(r"[.!?…:;]+[\s»\"”)]*|\n+|^\s*[-–—*•]\s*|[«“\"(]\s*", regex.MULTILINE)
CAPITALISED = regex.compile(r"\p{Lu}[\p{L}\p{M}'-]*")


def tense_counts(text: str) -> dict[str, int]:
    """Return how many finite verbs of a French text are found in each tense; see `finite_verbs`."""
    return {"present": 0, "passe_compose": 0, "other": 0} | Counter(finite_verbs(text).values())


def finite_verbs(text: str) -> dict[int, str]:
    """Return the tense of each finite verb that is found in a French text, by its place among the words.

    Tenses: `present`, `passe_compose`, and `other` (imperfect, future, conditional, pluperfect, passé simple,
    subjunctive). A verb group stands at its auxiliary.
    """
    found: dict[int, str] = {}
    before = 0
    for clause in CLAUSE.split(text):
        original = words(clause, "fr")
        tokens = [word.lower() for word in original]
        participles: list[int] = []
        for place, word in enumerate(tokens):
            if place not in participles and (tense := tense_at(original, tokens, place)):
                found[before + place] = tense
            if AUXILIARY.fullmatch(word):
                participles = participles_after(tokens, place)
        before += len(tokens)
    return found


def tense_at(original: list[str], tokens: list[str], place: int) -> str | None:
    """Return the tense of the finite verb at a place of a clause, in its words and in lower case; None for no verb."""
    word, following = tokens[place], tokens[place + 1] if place + 1 < len(tokens) else ""
    if original[place][0].isupper() and not following.startswith("-"):
        return None
    if word in AVOIR | ETRE:
        is_noun = word in ("est", "as", "sommes") and is_nominal(original, tokens, place)
        return None if is_noun and not follows_subject(tokens, place) else group_tense(tokens, place)
    tense = FORMS.get(word)
    if tense is None and (word in SUBJUNCTIVE or OTHER.fullmatch(word)) and word not in NO_VERBS:
        tense = "other"
    if follows_subject(tokens, place):
        if tense is None and is_open(word) and not NOT_FINITE.search(word):
            tense = "other" if OTHER_OF_SUBJECT.fullmatch(word) else "present"
    elif tense != "other" and is_nominal(original, tokens, place):
        return None
    elif tense is None and is_open(word) and is_predicate(original, tokens, place):
        tense = "present"
    return "other" if tense and follows_subjunctive_que(tokens[:place]) else tense


def is_open(word: str) -> bool:
    """Say whether a word is none of the closed classes: article, preposition, pronoun, adverb."""
    return word[0].isalpha() and word not in CLOSED


def follows_subject(tokens: list[str], place: int) -> bool:
    """Say whether a pronoun stands before that only a verb can follow: `il`, `il les`, `qui lui`, `se`, `ne`."""
    start = place
    while start and tokens[start - 1] in CLITICS:
        start -= 1
    between = tokens[start:place]
    return (
        (start > 0 and tokens[start - 1] in SUBJECTS)
        or not ONLY_BEFORE_VERBS.isdisjoint(between)
        or (start > 0 and "lui" in between and tokens[start - 1] not in PREPOSITIONS)
        or ("nous" in between and tokens[place].endswith("ons"))
        or ("vous" in between and tokens[place].endswith("ez"))
    )


def is_nominal(original: list[str], tokens: list[str], place: int) -> bool:
    """Say whether the word before makes this one a noun, if no subject pronoun stands before.

    `le`, `la`, `les`, `leur` and `en` may be objects, as after a name: `Koné le dribble`. `entre` is a verb before a
    place.
    """
    word, before, earlier = tokens[place], tokens[place - 1] if place else "", tokens[place - 2] if place > 1 else ""
    if word == "entre":
        return PLACES.isdisjoint(tokens[place + 1 : place + 2])
    if word in ("as", "sommes"):
        return before in NOMINAL
    if word == "est":
        return before == "l'" and (not earlier or earlier in PREPOSITIONS)
    if before not in NOMINAL or word.endswith(("ent", "ont")):
        return False
    if before in CLITICS and is_name(original, place - 2):
        return False
    if before in ("la", "l'", "leur"):
        return word.endswith("e") or word == "part"
    return before != "les" and (before != "le" or word in MASCULINE)


def is_name(original: list[str], place: int) -> bool:
    """Say whether a capitalised word of no closed class stands at a place."""
    return place >= 0 and original[place][0].isupper() and is_open(original[place].lower())


def is_predicate(original: list[str], tokens: list[str], place: int) -> bool:
    """Say whether an unlisted word stands where a verb does.

    `les Parisiens déroulent`: in -ent after a plural. `Zhegrova botte ce corner`: in -e between a noun and an article,
    or between a name and a preposition.
    """
    word, before = tokens[place], tokens[place - 1] if place else ""
    if not before or not (is_open(before) or before in ("et", "puis")):
        return False
    if word.endswith("ent"):
        return before[-1] in "sx" and not word.endswith("ment")
    objects = ARTICLES | PLACES if is_name(original, place - 1) else ARTICLES
    return word.endswith("e") and not (objects - {"du", "des"}).isdisjoint(tokens[place + 1 : place + 2])


def follows_subjunctive_que(earlier: list[str]) -> bool:
    """Say whether a clause has `pour que`, `il faut que` or the like before a verb."""
    return any(one in BEFORE_QUE and other in ("que", "qu'") for one, other in itertools.pairwise(earlier))


def group_tense(tokens: list[str], place: int) -> str:
    """Return the tense of avoir or être in the present with what follows.

    `a marqué`, `a été refusé`: passé composé. With `être` only for the verbs that form it so and for reflexive ones:
    `est sanctionné` is a passive in the present. Without a participle the auxiliary is a verb of its own.
    """
    participles = participles_after(tokens, place)
    if not participles:
        return "present"
    before = [word for word in tokens[:place] if word not in ("y", "en")][-2:]
    is_reflexive = before[-1:] and (before[-1] in REFLEXIVE or before in (["nous", "nous"], ["vous", "vous"]))
    is_past = tokens[place] in AVOIR or is_reflexive or tokens[participles[0]] in ETRE_PARTICIPLES
    return "passe_compose" if is_past else "present"


def participles_after(tokens: list[str], place: int) -> list[int]:
    """Return the places of the participles that follow an auxiliary: none, one, or two for `a été refusé`."""
    found: list[int] = []
    for index in range(place + 1, len(tokens)):
        word = tokens[index]
        if word in PARTICIPLES or regex.fullmatch(r"\p{L}{2,}é(?:e|s|es)?|été", word):
            found.append(index)
            if word != "été":
                break
        elif word not in BETWEEN and not word.startswith("-") and not word.endswith("ment"):
            break
    return found


def proper_noun_counts(text: str) -> tuple[int, int]:
    """Return (capitalised words that begin no sentence, all words) of a French text."""
    total = named = 0
    for sentence in SENTENCE.split(text):
        found = words(sentence, "fr")
        total += len(found)
        named += sum(bool(CAPITALISED.fullmatch(word)) and not word.endswith("'") for word in found[1:])
    return named, total


@functools.cache
def counts_of(text: str) -> tuple[int, int, int]:
    """Return (present, passé composé, all finite verbs found) of a text."""
    counts = tense_counts(text)
    return counts["present"], counts["passe_compose"], sum(counts.values())


def tense_share(data: ScoringInput, column: int) -> MetricResult:
    """Return (verbs in the tense, finite verbs found) per answer that has any."""
    counts = [counts_of(text) for text in data.texts]
    if not any(total for *_, total in counts):
        raise NotApplicableError("no answer has a finite verb that the heuristic knows")
    return MetricResult([[row[column], row[2]] if row[2] else None for row in counts])


@metric("Present tense", direction="neither", statistic="ratio", unit="%", language="fr")
def present_share(data: ScoringInput) -> MetricResult:
    """Share of the present among the finite verbs found; a rough heuristic.

    On sentences not used for its rules it finds 89 % of the verbs in the present; 96 % of those found are right.
    """
    return tense_share(data, 0)


@metric("Passé composé", direction="neither", statistic="ratio", unit="%", language="fr")
def passe_compose_share(data: ScoringInput) -> MetricResult:
    """Share of the passé composé among them; a rough heuristic.

    On sentences not used for its rules it finds 97 % of the verbs in the passé composé; 97 % of those found are right.
    """
    return tense_share(data, 1)


@metric("Proper nouns", direction="neither", statistic="ratio", unit="%", language="fr")
def proper_noun_rate(data: ScoringInput) -> MetricResult:
    """Share of words that look like proper nouns; a heuristic.

    Return (proper nouns found, words) per answer that has any word.
    """
    counts = [proper_noun_counts(text) for text in data.texts]
    if not any(total for _, total in counts):
        raise NotApplicableError("no answer has a word")
    return MetricResult([list(row) if row[1] else None for row in counts])
