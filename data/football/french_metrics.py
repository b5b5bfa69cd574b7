"""Metrics of French texts: which tenses a text is told in, and how often it names someone or something.

Heuristics without a parser: closed lists of auxiliaries and of common verbs, conjugated by rule, and the word before to
tell a verb from a noun (`il marque`, `la marque`). What is not listed is not counted. A configuration takes them by
`score.metrics_from: data/football/french_metrics.py`.
"""

import functools

import regex

from scripts.score.metrics import metric
from scripts.score.scoring_input import MetricResult, NotApplicableError, ScoringInput
from scripts.score.tokenize_text import words

# `FORMS` maps a finite form to `present` or `other`. Those of avoir and être in the present are auxiliaries, not in it.
FIRST_GROUP = """
accélérer accepter accompagner accorder accrocher adresser aider aimer ajouter ajuster amener appeler appliquer
appuyer apporter armer arracher arrêter arriver assurer attaquer avancer baisser bloquer botter bousculer cadrer
centrer changer chanter chercher claquer commencer commander compter concéder contrôler coller comporter continuer
contester couper crocheter créer crier dégager déborder décider déclencher décocher dégainer demander demeurer
dépasser déposer dévier devancer discuter disputer distiller dominer donner dribbler échanger échapper écarter
échouer éliminer effacer égaliser emmener encaisser enchaîner enrouler entraîner entrer envoyer essayer espérer
éviter exécuter expliquer exploser expulser filer forcer frapper frôler gagner garder gêner glisser heurter hésiter
hurler imposer insister intercepter jeter jouer laisser lancer lever libérer lober louper manquer marcher marquer
mener menacer monter montrer négocier observer obliger occuper opérer oublier parler passer payer penser percuter
placer plonger porter pousser précipiter préférer prolonger procéder profiter protester provoquer raconter ramener
rater rappeler regarder rejeter relancer relever remarquer remonter remplacer rentrer repousser résister respecter
rester retomber retourner réaliser récupérer réclamer régaler rêver sauter sauver secouer sembler siffler signaler
signer souffler souligner stopper tacler tenter terminer tirer tomber toucher tourner transformer travailler
traverser tromper trouver trembler utiliser valider vérifier viser voler expédier remiser éloigner anticiper
ponctuer décaler enfoncer capter boxer
"""
SECOND_GROUP = """
agir bondir choisir définir élargir finir fournir grandir investir ralentir réagir remplir réunir réussir saisir
surgir trahir jaillir  faiblir
"""

# infinitive: present forms | stem of the imperfect | stem of future and conditional | participle
IRREGULAR = """
aller: vais vas va allons allez vont | all | ir | allé
atteindre: atteins atteint atteignons atteignez atteignent | atteign | atteindr | atteint
attendre: attends attend attendons attendez attendent | attend | attendr | attendu
avoir: | av | aur | eu
battre: bats bat battons battez battent | batt | battr | battu
boire: bois boit buvons buvez boivent | buv | boir | bu
conclure: conclus conclut concluons concluez concluent | conclu | conclur | conclu
conduire: conduis conduit conduisons conduisez conduisent | conduis | conduir | conduit
connaître: connais connaît connaissons connaissez connaissent | connaiss | connaîtr | connu
convaincre: convaincs convainc convainquons convainquez convainquent | convainqu | convaincr | convaincu
courir: cours court courons courez courent | cour | courr | couru
craindre: crains craint craignons craignez craignent | craign | craindr | craint
croire: crois croit croyons croyez croient | croy | croir | cru
défendre: défends défend défendons défendez défendent | défend | défendr | défendu
descendre: descends descend descendons descendez descendent | descend | descendr | descendu
détendre: détends détend détendons détendez détendent | détend | détendr | détendu
devenir: deviens devient devenons devenez deviennent | deven | deviendr | devenu
devoir: dois doit devons devez doivent | dev | devr | dû
dire: dis dit disons dites disent | dis | dir | dit
disparaître: disparais disparaît disparaissons disparaissez disparaissent | disparaiss | disparaîtr | disparu
dormir: dors dort dormons dormez dorment | dorm | dormir | dormi
écrire: écris écrit écrivons écrivez écrivent | écriv | écrir | écrit
entendre: entends entend entendons entendez entendent | entend | entendr | entendu
être: | ét | ser | été
éteindre: éteins éteint éteignons éteignez éteignent | éteign | éteindr | éteint
faire: fait faisons faites font | fais | fer | fait
falloir: faut | fall | faudr | fallu
inscrire: inscris inscrit inscrivons inscrivez inscrivent | inscriv | inscrir | inscrit
interdire: interdis interdit interdisons interdisez interdisent | interdis | interdir | interdit
intervenir: interviens intervient intervenons intervenez interviennent | interven | interviendr | intervenu
lire: lis lit lisons lisez lisent | lis | lir | lu
maintenir: maintiens maintient maintenons maintenez maintiennent | mainten | maintiendr | maintenu
mettre: mets met mettons mettez mettent | mett | mettr | mis
mourir: meurs meurt mourons mourez meurent | mour | mourr | mort
naître: nais naît naissons naissez naissent | naiss | naîtr | né
obtenir: obtiens obtient obtenons obtenez obtiennent | obten | obtiendr | obtenu
offrir: offre offrons offrez offrent | offr | offrir | offert
ouvrir: ouvre ouvrons ouvrez ouvrent | ouvr | ouvrir | ouvert
paraître: parais paraît paraissons paraissez paraissent | paraiss | paraîtr | paru
partir: pars part partons partez partent | part | partir | parti
parvenir: parviens parvient parvenons parvenez parviennent | parven | parviendr | parvenu
perdre: perds perd perdons perdez perdent | perd | perdr | perdu
permettre: permets permet permettons permettez permettent | permett | permettr | permis
plaire: plais plaît plaisons plaisez plaisent | plais | plair | plu
pouvoir: peux peut pouvons pouvez peuvent | pouv | pourr | pu
prendre: prends prend prenons prenez prennent | pren | prendr | pris
recevoir: reçois reçoit recevons recevez reçoivent | recev | recevr | reçu
rejoindre: rejoins rejoint rejoignons rejoignez rejoignent | rejoign | rejoindr | rejoint
rendre: rends rend rendons rendez rendent | rend | rendr | rendu
répondre: réponds répond répondons répondez répondent | répond | répondr | répondu
repartir: repars repart repartons repartez repartent | repart | repartir | reparti
reprendre: reprends reprend reprenons reprenez reprennent | repren | reprendr | repris
revenir: reviens revient revenons revenez reviennent | reven | reviendr | revenu
rire: ris rit rions riez rient | ri | rir | ri
savoir: sais sait savons savez savent | sav | saur | su
sentir: sens sent sentons sentez sentent | sent | sentir | senti
servir: sers sert servons servez servent | serv | servir | servi
sortir: sors sort sortons sortez sortent | sort | sortir | sorti
souffrir: souffre souffrons souffrez souffrent | souffr | souffrir | souffert
suivre: suit suivons suivez suivent | suiv | suivr | suivi
surprendre: surprends surprend surprenons surprenez surprennent | surpren | surprendr | surpris
tendre: tends tend tendons tendez tendent | tend | tendr | tendu
tenir: tiens tient tenons tenez tiennent | ten | tiendr | tenu
venir: viens vient venons venez viennent | ven | viendr | venu
vivre: vis vit vivons vivez vivent | viv | vivr | vécu
voir: vois voit voyons voyez voient | voy | verr | vu
vouloir: veux veut voulons voulez veulent | voul | voudr | voulu
"""
WITH_ETRE = """
allé arrivé descendu devenu entré intervenu monté mort né parti parvenu passé remonté rentré reparti resté retombé
retourné revenu sorti tombé venu
"""
IMPERFECT = ("ais", "ait", "ions", "iez", "aient")
FUTURE = ("ai", "as", "a", "ons", "ez", "ont")


def agreed(participle: str) -> set[str]:
    """Return a past participle in its four forms."""
    plain = "du" if participle == "dû" else participle
    return {participle, plain + "e", plain + "es", participle if participle.endswith("s") else plain + "s"}


def first_group_present(infinitive: str) -> list[str]:
    """Return the present of a verb in -er: je, tu, il are the stem that changes, nous and vous the plain one."""
    stem = infinitive[:-2]
    nous = {"g": stem + "e", "c": stem[:-1] + "ç"}.get(stem[-1], stem)
    if infinitive in ("appeler", "rappeler", "jeter", "rejeter"):
        stressed = stem + stem[-1]
    elif stem[-2] in "eé" and stem[-1] in "cdgmnrtv":
        stressed = stem[:-2] + "è" + stem[-1]
    elif stem.endswith(("oy", "uy")):
        stressed = stem[:-1] + "i"
    else:
        stressed = stem
    return [stressed + "e", stressed + "es", nous + "ons", stem + "ez", stressed + "ent"]


def first_group(infinitive: str) -> tuple[list[str], list[str]]:
    """Return (present, other tenses) of a verb in -er."""
    stem = infinitive[:-2]
    soft = {"g": stem + "e", "c": stem[:-1] + "ç"}.get(stem[-1], stem)
    stems = [soft, soft, stem, stem, soft]
    imperfect = [a + b for a, b in zip(stems, IMPERFECT, strict=True)]
    future = "enverr" if infinitive == "envoyer" else infinitive
    return first_group_present(infinitive), imperfect + [future + end for end in FUTURE + IMPERFECT]


def all_forms() -> tuple[dict[str, str], set[str]]:
    """Return (form to tense, past participles) of all listed verbs."""
    present: list[str] = []
    other: list[str] = []
    participles: set[str] = set()
    for infinitive in FIRST_GROUP.split():
        now, then = first_group(infinitive)
        present += now
        other += then
        participles |= agreed(infinitive[:-2] + "é")
    for infinitive in SECOND_GROUP.split():
        stem = infinitive[:-1]
        present += [stem + end for end in ("s", "t", "ssons", "ssez", "ssent")]
        other += [stem + "ss" + end for end in IMPERFECT] + [infinitive + end for end in FUTURE + IMPERFECT]
        participles |= agreed(stem)
    for line in IRREGULAR.strip().splitlines():
        now, imperfect, future, participle = (part.strip() for part in line.split(":", 1)[1].split("|"))
        present += now.split()
        other += [imperfect + end for end in IMPERFECT] + [future + end for end in FUTURE + IMPERFECT]
        participles |= agreed(participle)
    return {**dict.fromkeys(other, "other"), **dict.fromkeys(present, "present")}, participles


FORMS, PARTICIPLES = all_forms()
ETRE_PARTICIPLES = frozenset(form for participle in WITH_ETRE.split() for form in agreed(participle))


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
    """Share of the present among the finite verbs found; a heuristic.

    Return the statistics of the present's share of the finite verbs found.
    """
    return tense_share(data, 0)


@metric("Passé composé", direction="neither", statistic="ratio", unit="%", language="fr")
def passe_compose_share(data: ScoringInput) -> MetricResult:
    """Share of the passé composé among them; a heuristic.

    Return the statistics of the passé composé's share of the finite verbs found.
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
