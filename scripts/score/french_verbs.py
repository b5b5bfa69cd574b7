"""Finite forms and past participles of common French verbs, made by rule from their infinitives.

`FORMS` maps a form to `present` or `other`; forms of avoir and être in the present are auxiliaries and are not in it.
"""

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
