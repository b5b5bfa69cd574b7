"""French phrases for the generated corpus: sport, weather, towns, cooking, daily life, dialogue."""

import re

from scripts.model.grammar import capitalize_sentences

VOWELS = "aàâäeéèêëiîïoôöuùûüœæAÀÂEÉÈÊIÎOÔUÛŒ"
ASPIRATED = "alle|amac|angar|aricot|asard|aut|erse|érisson|êtr|ibou|omard|ors|uit|urle|éro(?!ï)|aie|arpe|ache"
BEFORE_VOWEL = rf"(?=[{VOWELS}]|[hH](?!{ASPIRATED}))(?!onze|ouistiti|Yonne)"
ELISION = re.compile(rf"\b([lLdDjJmMtTsSnN]|[qQ]u|[jJ]usqu|[lL]orsqu|[pP]uisqu)[ea] {BEFORE_VOWEL}")
POSSESSIVE = re.compile(rf"\b([mMtTsS])a {BEFORE_VOWEL}")
DEMONSTRATIVE = re.compile(rf"\b([cC])e {BEFORE_VOWEL}")
NO_BREAK_SPACE = "\u00a0"


def polish(text: str) -> str:
    """Return `text` with elisions, contractions, capitals and French typography in place."""
    text = POSSESSIVE.sub(r"\1on ", text)
    text = DEMONSTRATIVE.sub(r"\1et ", text)
    text = ELISION.sub(r"\1'", text)
    text = re.sub(r"\b([dD])e le ", r"\1u ", text)
    text = re.sub(r"\b([dD])e les ", r"\1es ", text)
    text = re.sub(r"\bà le ", "au ", text)
    text = re.sub(r"\bÀ le ", "Au ", text)
    text = re.sub(r"\bà les ", "aux ", text)
    text = re.sub(r"\bÀ les ", "Aux ", text)
    text = capitalize_sentences(text)
    text = re.sub(r"(?<=[^\W\d_])'(?=[^\W\d_])", "’", text)
    text = re.sub(r" (?=[!?:;»])", NO_BREAK_SPACE, text)
    return re.sub(r"(?<=«) ", NO_BREAK_SPACE, text)


RULES: dict[str, list[str]] = {
    # People.
    "boy": """Lucas Hugo Adrien Mathis Noé Gabriel Youssef Malo Rayan Simon Victor Anatole Bastien Corentin Émile Félix
        Ismaël Jules Léo Marius Octave Paul Quentin Romain Samuel Théo Ulysse Yanis Armand Baptiste""".split(),
    "girl": """Camille Inès Jeanne Léa Manon Nour Océane Pauline Rose Sarah Agathe Brune Clémence Diane Élise Fatou
        Garance Hélène Iris Juliette Louise Maëlle Naïma Romane Salomé Victoire Zoé Aïcha Capucine Margaux""".split(),
    "surname": """Aubrac Belcourt Cazenave Delmas Estève Fontanel Garrigue Hervieu Jourdan Kervella Lambertin Marsac
        Nogaret Ollivier Pélissier Quentin Roussel Sabatier Tournier Vasseur Bonnafous Chastel Diakhaté Okoro Benali
        Traoré Moreira Lindqvist Petrov Sandoval Tanguy Berthelot Coulomb Delaunay Fabre Guilloux""".split(),
    "first_name": ["[boy]@m", "[girl]@f"],
    "person": [
        "le boulanger@m", "le facteur@m", "le voisin@m", "le libraire@m", "le jardinier@m", "le médecin@m", "le maire@m",
        "le menuisier@m", "le pêcheur@m", "le professeur@m", "le chauffeur@m", "le cuisinier@m", "le berger@m",
        "le mécanicien@m", "le fleuriste@m", "le pharmacien@m", "le gardien@m", "le musicien@m", "un ami@m",
        "un étudiant@m", "un passant@m", "mon grand-père@m", "mon oncle@m", "la boulangère@f", "la factrice@f",
        "la voisine@f", "la libraire@f", "la jardinière@f", "la médecin@f", "la maire@f", "la couturière@f",
        "la professeure@f", "la conductrice@f", "la cuisinière@f", "la bergère@f", "la mécanicienne@f", "la fleuriste@f",
        "la pharmacienne@f", "la gardienne@f", "la musicienne@f", "une amie@f", "une étudiante@f", "une passante@f",
        "ma grand-mère@f", "ma tante@f",
        "[boy]@m", "[girl]@f", "[boy]@m", "[girl]@f",
    ],
    "group": [
        "les enfants@mp", "les voisins@mp", "les touristes@mp", "les élèves@mp", "les pompiers@mp", "les habitants@mp",
        "les commerçants@mp", "les cyclistes@mp", "les voisines@fp", "les joueuses@fp", "les familles@fp",
        "les bénévoles@mp", "les vendeuses@fp", "les promeneurs@mp", "les apprentis@mp", "les infirmières@fp",
    ],
    "happy": [
        "content|contente|contents|contentes", "heureux|heureuse|heureux|heureuses", "ravi|ravie|ravis|ravies",
        "fier|fière|fiers|fières", "soulagé|soulagée|soulagés|soulagées", "détendu|détendue|détendus|détendues",
        "ému|émue|émus|émues", "enchanté|enchantée|enchantés|enchantées",
    ],
    "tired": [
        "fatigué|fatiguée|fatigués|fatiguées", "inquiet|inquiète|inquiets|inquiètes", "pressé|pressée|pressés|pressées",
        "déçu|déçue|déçus|déçues", "trempé|trempée|trempés|trempées", "surpris|surprise|surpris|surprises",
        "impatient|impatiente|impatients|impatientes", "silencieux|silencieuse|silencieux|silencieuses",
    ],
    # Time and place.
    "when": [
        "ce matin", "ce soir", "hier", "hier soir", "en fin de journée", "dès l'aube", "vers midi", "dans l'après-midi",
        "avant le dîner", "au lever du jour", "à la tombée de la nuit", "samedi dernier", "la semaine dernière",
        "il y a [2..9] jours", "à [7..11] heures", "le [2..28] [month]", "un dimanche sur deux", "le lundi de Pâques",
    ],
    "often": [
        "chaque matin", "tous les soirs", "le dimanche", "souvent", "d'habitude", "parfois", "au printemps", "en été",
        "en automne", "l'hiver", "à midi", "le week-end", "pendant les vacances", "le mercredi après-midi",
        "de temps en temps", "une fois par mois", "depuis [2..20] ans", "dès qu'il fait beau",
    ],
    "month": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre".split(),
    "day": "lundi mardi mercredi jeudi vendredi samedi dimanche".split(),
    "city": """Lyon Brest Nantes Dijon Arles Rouen Tours Bayonne Lille Metz Nîmes Quimper Annecy Limoges Colmar Amiens
        Cahors Auxerre Besançon Avignon Vannes Albi Dieppe Honfleur Pau Chambéry Reims Angers Orléans Troyes""".split(),
    "region": ["en Bretagne", "en Provence", "en Alsace", "en Normandie", "dans le Jura", "dans les Vosges", "en Corse",
        "dans le Berry", "en Auvergne", "au Pays basque", "dans le Nord", "en Savoie", "dans les Cévennes", "en Lorraine"],
    "place": [
        "la place du marché@f", "la gare@f", "la bibliothèque@f", "la mairie@f", "la rivière@f", "la plage@f",
        "la vieille ville@f", "la cathédrale@f", "la fontaine@f", "la boulangerie@f", "l'école@f", "l'église@f",
        "le port@m", "le parc@m", "le pont@m", "le musée@m", "le stade@m", "le cinéma@m", "le jardin public@m",
        "le canal@m", "le théâtre@m", "le vieux moulin@m", "le quai@m", "l'hôpital@m", "l'atelier@m", "le lavoir@m",
    ],
    "near": ["près de [place]", "devant [place]", "derrière [place]", "à côté de [place]", "en face de [place]",
        "au bout de la rue", "au coin de la rue", "sur la route de [city]", "à deux pas de [place]", "au pied de la colline"],
    "street": ["la rue des [plural]", "l'avenue de [city]", "l'impasse du [tree]", "le quai des [plural]",
        "la place [surname]", "le boulevard [surname]", "le chemin du [tree]", "la ruelle des [plural]"],
    "plural": "Tanneurs Tisserands Lilas Glycines Bateliers Peupliers Remparts Cordiers Fauvettes Hirondelles".split(),
    "tree": "Chêne Tilleul Noyer Saule Pin Figuier Marronnier Pommier Cerisier Platane Bouleau Châtaignier".split(),
    # Sport.
    "club": [
        "le Stade orvalien@m", "le Racing de Lorme@m", "le FC Tarvel@m", "le Sporting de Vauzelles@m", "l'US Brécy@f",
        "l'AS Montferrat-Plaine@f", "l'Entente de la Sèvre@f", "l'Union de Kerlann@f", "la Jeunesse d'Oriac@f",
        "l'Avenir de Puymorel@m", "l'Espérance de Saint-Aubert@f", "le CS Galmier@m", "le Red Club de Nérac@m",
        "la Vaillante de Périgny@f", "l'Amicale de Tréboul@f", "le Football Club de la Loue@m",
    ],
    "player": ["[surname]", "[surname]", "[surname]", "[boy] [surname]"],
    "minute": ["[1..89]", "[1..44]", "[46..89]"],
    "score": ["1-0", "0-1", "1-1", "2-0", "2-1", "1-2", "2-2", "3-1", "3-2", "0-0", "4-1", "0-2", "1-3"],
    "flank": ["à gauche", "à droite", "sur l'aile gauche", "sur l'aile droite", "dans l'axe", "le long de la ligne",
        "côté gauche", "côté droit", "au second poteau", "au premier poteau", "plein axe"],
    "distance": ["à vingt mètres", "à vingt-cinq mètres", "aux six mètres", "à l'entrée de la surface", "de près",
        "à trente mètres", "dans un angle fermé", "au point de penalty", "à bout portant", "de loin"],
    "shot": ["frappe", "tire", "tente sa chance", "arme une frappe", "décoche une frappe sèche", "reprend de volée",
        "tente un lob", "croise sa frappe", "enroule du pied droit", "place une tête", "frappe sans contrôle"],
    "shot_past": ["a frappé", "a tiré", "a tenté sa chance", "a décoché une frappe", "a repris de volée", "a tenté un lob",
        "a croisé sa frappe", "a enroulé du pied gauche", "a placé une tête", "a armé une frappe puissante"],
    "miss": ["mais c'est au-dessus", "mais le ballon fuit le cadre", "et le gardien capte en deux temps",
        "mais le gardien s'envole et détourne", "sur la barre transversale", "et le poteau renvoie le ballon",
        "mais un défenseur contre au dernier moment", "sans inquiéter le gardien", "mais c'est trop mou",
        "et cela passe à côté, tout près du poteau", "mais [player] se jette et dévie en corner"],
    "goal_end": ["et fait mouche", "et trouve la lucarne", "et le ballon termine au fond des filets",
        "et bat le gardien au ras du poteau", "et trompe le gardien, parti du mauvais côté", "et marque",
        "et le filet tremble", "et ne laisse aucune chance au gardien", "et libère tout un stade"],
    "goal_call": ["But !", "Buuut !", "Goal !", "Quel but !", "Et c'est dedans !", "Le but !", "Incroyable !",
        "Ouverture du score !", "Égalisation !", "Le break !", "C'est au fond !"],
    "foul_end": ["L'arbitre laisse jouer.", "L'arbitre sort le carton jaune.", "Coup franc bien placé.",
        "Le banc proteste.", "Il se relève en grimaçant.", "Rien de grave.", "L'avantage est laissé.", "Le public gronde."],
    "crowd": ["Le public se lève.", "Les tribunes chantent.", "Le stade gronde.", "Les supporters y croient.",
        "On entend les tambours.", "Silence dans les tribunes.", "Quelle ambiance !", "Le virage nord explose."],
    # Weather.
    "sky": ["le ciel@m", "l'horizon@m", "la brume@f", "la lumière@f", "le soleil@m", "la lune@f"],
    "weather_noun": ["la pluie@f", "la neige@f", "la grêle@f", "le vent@m", "le brouillard@m", "l'orage@m", "le gel@m",
        "la chaleur@f", "la tempête@f", "le mistral@m", "la bise@f", "une averse@f", "une éclaircie@f", "le froid@m"],
    "weather_verb": ["arrive par l'ouest", "gagne la côte", "s'installe sur la vallée", "recule vers le sud",
        "surprend tout le monde", "revient en fin de journée", "faiblit peu à peu", "touche d'abord la montagne"],
    "temperature": ["[2..9] degrés", "[10..19] degrés", "[20..34] degrés", "moins [2..9] degrés"],
    # Cooking.
    "dish": ["la soupe à l'oignon@f", "la tarte aux pommes@f", "la ratatouille@f", "la blanquette@f", "la quiche@f",
        "la purée@f", "l'omelette aux herbes@f", "la salade de lentilles@f", "la compote@f", "la daube@f",
        "le gratin@m", "le pot-au-feu@m", "le clafoutis@m", "le gâteau au chocolat@m", "le cassoulet@m",
        "le riz au lait@m", "le bouillon@m", "le flan@m", "le pain d'épices@m", "le poulet rôti@m", "le couscous@m"],
    "ingredient": ["des oignons", "des carottes", "des poireaux", "des pommes", "du beurre", "de la crème", "du thym",
        "du laurier", "de l'ail", "du persil", "des œufs", "de la farine", "du sucre", "du sel", "du poivre", "du lait",
        "des lentilles", "des tomates", "du fromage", "du miel", "des noix", "de l'huile d'olive", "un citron",
        "des champignons", "du basilic", "des courgettes", "de la cannelle", "une gousse de vanille"],
    "cook_step": ["coupez [some] en petits morceaux", "faites fondre le beurre à feu doux", "laissez mijoter [10..50] minutes",
        "ajoutez [ingredient]", "battez les œufs en neige", "salez et poivrez", "mélangez bien", "versez dans un moule",
        "enfournez à [150..220] degrés", "couvrez et attendez [5..30] minutes", "faites revenir [some] dans l'huile",
        "goûtez, puis ajoutez [ingredient]", "laissez reposer la pâte une nuit", "égouttez et réservez", "servez bien chaud"],
    "some": ["les oignons", "les carottes", "les pommes", "les poireaux", "les tomates", "les courgettes", "les champignons"],
    "quantity": ["[100..500] g de farine", "[2..6] œufs", "[20..90] cl de lait", "une pincée de sel", "un verre de vin blanc",
        "deux cuillères à soupe d'huile", "[50..200] g de beurre", "trois gousses d'ail", "un bouquet de persil",
        "[1..3] kg de pommes", "une tasse de riz", "un demi-citron"],
    "taste": ["délicieux|délicieuse", "trop salé|trop salée", "un peu fade|un peu fade", "parfumé|parfumée",
        "bien doré|bien dorée", "léger|légère", "encore chaud|encore chaude", "réussi|réussie", "brûlant|brûlante"],
    # Daily life.
    "object": ["le vélo@m", "le parapluie@m", "le journal@m", "le panier@m", "le réveil@m", "le manteau@m", "le carnet@m",
        "le téléphone@m", "le billet de train@m", "la clé@f", "la lampe@f", "la valise@f", "la lettre@f", "la montre@f",
        "la photo@f", "l'échelle@f", "la guitare@f", "la bouilloire@f", "la voiture@f", "l'écharpe@f"],
    "object_adjective": ["neuf|neuve", "cassé|cassée", "perdu|perdue", "rouge|rouge", "bleu|bleue", "vert|verte",
        "lourd|lourde", "ancien|ancienne", "abîmé|abîmée", "réparé|réparée", "introuvable|introuvable"],
    "activity": ["lire au lit", "marcher au bord de l'eau", "jouer aux cartes", "réparer des vélos", "écouter la radio",
        "chanter en chœur", "planter des tomates", "dessiner des bateaux", "apprendre l'italien", "nager dans la rivière",
        "faire du pain", "photographier les oiseaux", "tricoter", "courir dans les bois", "regarder les étoiles"],
    "reason": ["parce qu'il pleut", "parce que le train a du retard", "car le magasin ferme tôt", "malgré le froid",
        "à cause de la grève", "pour faire plaisir aux enfants", "avant l'arrivée des invités", "sans rien dire",
        "en sifflant", "avec beaucoup de patience", "comme tous les ans", "faute de mieux", "pour la première fois"],
    "animal": ["le chat@m", "le chien@m", "le merle@m", "le renard@m", "le hérisson@m", "l'âne@m", "la chèvre@f",
        "la chouette@f", "la tortue@f", "la mésange@f", "la vache@f", "la grenouille@f", "l'hirondelle@f", "le hibou@m"],
    "animal_verb": ["dort sur le rebord de la fenêtre", "traverse la route", "chante dans le [tree_low]", "boit à la fontaine",
        "cherche à manger", "se cache sous la haie", "regarde passer les trains", "guette au fond du jardin",
        "rentre à la nuit", "s'approche sans bruit", "attend devant la porte"],
    "tree_low": "chêne tilleul noyer saule pin figuier marronnier pommier cerisier platane".split(),
    "greeting": ["bonjour", "salut", "bonsoir", "coucou", "allô", "dis-moi", "excusez-moi", "bonjour à tous"],
    "reply": ["oui, bien sûr", "non, pas encore", "je ne sais pas", "avec plaisir", "peut-être demain", "tu as raison",
        "pas du tout", "volontiers", "attends une minute", "d'accord", "bien entendu", "je vais voir", "ça dépend"],
    "emoji": ["🙂", "⚽", "🎉", "☔", "🍎", "🌞", "🚲", "😅", "👏", "🌿", "❤️", "🐦"],
    "small": ["deux", "trois", "cinq", "dix", "vingt"],
    "english_word": ["le match est *live*", "c'est du *fair-play*", "un vrai *money time*", "quel *timing*", "un joli *clean sheet*"],
}

SPORT = [
    "[goal_call] [player] reçoit le ballon [flank], [shot] [distance] [goal_end].",
    "[goal_call] Servi par [player], [surname] [shot] [goal_end]. [score] pour [club].",
    "[player] [shot] [distance], [miss].",
    "[player] [shot_past] [distance], [miss].",
    "Corner pour [club], [flank]. [player] s'en charge et le ballon est repoussé par [surname].",
    "[player] centre [flank], personne n'est à la réception.",
    "à la [minute]e minute, [c:club] [c?passe tout près du|frôle le] but par [player].",
    "faute de [player] sur [surname] au milieu du terrain. [foul_end]",
    "[player] a été averti pour un tacle en retard. [foul_end]",
    "[player] sort sous les applaudissements, [surname] entre à sa place.",
    "changement pour [club] : [player] remplace [surname], touché à la cuisse.",
    "penalty pour [club] ! [player] est tombé dans la surface et l'arbitre n'a pas hésité.",
    "hors-jeu de [player], parti trop tôt dans le dos de la défense.",
    "[club] presse haut depuis [2..15] minutes et récupère presque tous les ballons.",
    "la possession est équilibrée, mais [c:club] se montre plus [c?dangereux|dangereuse] en contre.",
    "l'arbitre siffle la mi-temps sur le score de [score].",
    "c'est terminé ! [club] l'emporte [2..5]-[0..1] devant [3..30] 000 spectateurs.",
    "il y aura [2..7] minutes de temps additionnel.",
    "[crowd] [player] accélère [flank] et provoque son défenseur.",
    "[player] a perdu le ballon dans son camp, [surname] en profite et [shot], [miss].",
    "belle séquence de [club] : [8..25] passes de suite, conclues par un tir de [player].",
    "le gardien dégage loin devant, [player] gagne son duel de la tête.",
    "[minute]' : coup franc de [player], [distance], [miss].",
    "égalisation de [club] ! [player] a surgi [flank] et tout est à refaire : [score].",
    "« On a manqué de calme dans le dernier geste », regrette [player] au micro.",
    "l'entraîneur de [club] a réorganisé son équipe avec [3..5] défenseurs.",
    "[player] reste au sol et le soigneur entre sur la pelouse. [crowd]",
    "la pluie redouble, la pelouse devient glissante et [surname] manque son contrôle.",
    "[c:club] [c?est mené|est menée] depuis la [1..40]e minute et cherche la faille.",
    "les deux équipes se neutralisent au milieu, le rythme est retombé depuis la pause.",
    "[club] jouera [day] à [city], avant de recevoir [club]. [emoji]",
    "[player], meilleur buteur de la saison avec [9..24] réalisations, a encore marqué.",
    "dernière minute : [english_word], et [club] tient bon.",
    "la course est partie de [city] [when] ; [30..170] cyclistes se sont élancés sous les bravos.",
    "[girl] [surname] a gagné le cent mètres en onze secondes et [1..9] dixièmes.",
    "le score est de [score] et rien n'est fait. [crowd]",
]

WEATHER = [
    "en ce moment, [weather_noun] [weather_verb].",
    "[region], [weather_noun] [weather_verb] et la température descend à [temperature].",
    "il fait [temperature] à [city], [temperature] à [city].",
    "demain, [weather_noun] [weather_verb] ; prenez un parapluie. [emoji]",
    "il a plu toute la nuit et la rivière est montée de [5..60] centimètres.",
    "le vent du nord souffle à [30..110] km/h sur la côte, les bateaux restent au port.",
    "une bande de nuages traverse le pays d'ouest en est, avec [2..20] millimètres de pluie.",
    "[sky] se couvre lentement au-dessus de [place].",
    "hier, il a neigé sur les hauteurs ; les routes ont été dégagées dans la matinée.",
    "le soleil se lève à [6..8] h [10..59] et se couche à [17..21] h [10..59].",
    "les agriculteurs attendent la pluie depuis [3..9] semaines.",
    "la nuit sera claire et froide, avec des gelées dans les vallées.",
    "le mois de [month] a été le plus chaud depuis [10..80] ans.",
    "au large, la mer est agitée et les vagues dépassent [2..6] mètres.",
    "la tempête est enfin passée, dit [person] en ouvrant les volets.",
    "quel temps ! [p:person] est [p&tired] et rentre en courant.",
    "prudence [day] : brouillard le matin, éclaircies l'après-midi, orages le soir.",
    "les premières fleurs sont apparues [region] dès la fin de [month].",
]

TOWNS = [
    "à [city], [place] se trouve [near].",
    "prenez [street], puis tournez à gauche ; [place] est à [100..900] mètres.",
    "[g:group] [g?se sont rassemblés|se sont rassemblées|se sont rassemblés|se sont rassemblées] [near] [when].",
    "le marché du [day] s'installe [near] et reste ouvert jusqu'à [12..19] heures.",
    "[p:place] a été [p?construit|construite] en 1[600..899] et [p?restauré|restaurée] en 19[60..99].",
    "la ville compte [4..95] 000 habitants et [3..40] écoles.",
    "un nouveau tramway relie désormais [place] à [place] en [5..25] minutes.",
    "le train de [city] arrive à [7..22] h [10..59], voie [1..9].",
    "[when], [p:person] a traversé [place] à vélo.",
    "au numéro [2..120] de [street], une vieille enseigne grince quand le vent se lève.",
    "le maire a inauguré la bibliothèque devant [40..400] personnes.",
    "[p:place] sera [p?fermé|fermée] pour travaux du [2..15] au [16..28] [month].",
    "depuis la colline, on aperçoit les toits de [city] et, plus loin, la mer.",
    "les rues sont étroites, pavées, et sentent le pain chaud [often].",
    "la fanfare a joué [near] et [group] ont dansé jusqu'à minuit. [emoji]",
    "[p:person] tient une petite boutique [near] depuis [3..40] ans.",
    "le pont, haut de [12..60] mètres, enjambe la rivière entre [place] et [place].",
    "bienvenue à [city] : son port, ses ruelles, son festival de [month].",
    "le bus numéro [1..60] ne passe plus le [day], il faut aller à pied.",
    "on a retrouvé une pièce romaine sous le dallage de la cathédrale.",
]

COOKING = [
    "pour [2..8] personnes, il faut [quantity], [quantity] et [quantity].",
    "[cook_step], puis [cook_step].",
    "[cook_step] ; ensuite, [cook_step].",
    "[d:dish] est [d&taste], dit [person] en se resservant.",
    "[when], [p:person] a préparé [dish] avec [ingredient] et [ingredient].",
    "[p:person] cuisine [often] : [dish], [dish], ou simplement des pâtes.",
    "le secret de [dish] ? [ingredient] et un peu de patience.",
    "au marché, [p:person] a acheté [ingredient], [ingredient] et [ingredient] pour [4..35] euros.",
    "ne salez pas trop tôt : les légumes rendraient leur eau.",
    "la pâte doit lever deux heures dans un endroit tiède, sous un linge.",
    "attention, le four est brûlant ; ouvrez-le doucement.",
    "[d:dish] de ma tante reste [d?le meilleur|la meilleure] du village.",
    "le fromage fond, la croûte dore, toute la maison embaume.",
    "comptez [15..90] minutes de cuisson et [5..20] minutes de repos.",
    "[p:person] a oublié le sel, mais personne n'a rien dit. [emoji]",
    "on sert [dish] avec du pain grillé et une salade verte.",
    "dans cette auberge [region], le menu coûte [12..28] euros et change [often].",
]

LIFE = [
    "[when], [p:person] a cherché [o:object] partout : [o?il|elle] était [near].",
    "[o:object] de [first_name] est [o&object_adjective] depuis [day].",
    "[p:person] aime [activity] [often].",
    "[g:group] [g#aime|aiment] [activity], [reason].",
    "[p:person] est [p&happy] : [p?il|elle] part à [city] [reason].",
    "[p:person] est [p&tired], alors [p?il|elle] rentre [reason].",
    "[p:person] est [p?arrivé|arrivée] en retard [when], [reason].",
    "[p:person] s'est [p?levé|levée] à [5..7] heures pour [activity].",
    "[animal] [animal_verb].",
    "[often], [animal] [animal_verb], et [p:person] lui parle doucement.",
    "nous avons marché [2..9] kilomètres avant de trouver [place].",
    "j'ai reçu une lettre de [first_name], qui vit maintenant [region].",
    "ma sœur apprend à [activity] ; elle progresse vite.",
    "mon voisin a vendu sa maison et il a acheté un bateau.",
    "il ne reste que [2..9] places dans le car de [city].",
    "les gens du quartier se saluent [often], même quand ils sont pressés.",
    "[first_name] a [7..15] ans aujourd'hui ; son gâteau porte autant de bougies. [emoji]",
    "la leçon de musique commence à [14..18] heures, n'oublie pas ton cahier.",
    "le bébé s'est endormi, il faut parler bas.",
    "[p:person] a rangé [object], fermé la porte et éteint la lumière.",
    "hier, [o:object] est [o?tombé|tombée] dans l'escalier ; il a fallu tout ramasser.",
    "[g:group] [g#attend|attendent] le facteur [near].",
    "quand la cloche sonne, [g:group] [g#sort|sortent] en courant.",
    "les vacances ont commencé : valises, chapeaux, cartes postales.",
    "[p:person] a lu [10..400] pages en [2..6] jours, puis [p?il|elle] a prêté le livre à [first_name].",
    "la lampe du couloir clignote ; [p:person] la changera [day].",
]

DIALOGUE = [
    "— [greeting], [first_name] ! tu viens [activity] ? — [reply].",
    "— [greeting]. vous cherchez [place] ? — [reply], merci.",
    "— où as-tu mis [object] ? — [near], je crois.",
    "« [reply] », a répondu [p:person] en souriant.",
    "« tu as vu [animal] ? » demande [first_name]. « oui, [near]. »",
    "— combien coûtent [2..6] kilos de pommes ? — [3..15] euros, madame.",
    "— quelle heure est-il ? — [1..11] heures et quart, il faut partir.",
    "« je reviens dans [5..30] minutes », promet [p:person].",
    "— tu préfères [dish] ou [dish] ? — [reply] !",
    "« attention à la marche ! » crie [p:person] ; trop tard.",
    "— il paraît que [club] a gagné. — oui, [2..5]-[0..1], un grand match !",
    "— [reply]... mais seulement si [first_name] vient aussi. [emoji]",
    "— pourquoi rentres-tu si tard ? — le bus était en panne.",
    "« merci pour tout, dit [person], et à [day] ! »",
    "— allô ? — bonjour, ici la mairie ; votre dossier est prêt.",
]

TOPICS = {
    "sport": SPORT,
    "sport_again": SPORT,
    "weather": WEATHER,
    "towns": TOWNS,
    "cooking": COOKING,
    "life": LIFE,
    "dialogue": DIALOGUE,
}

SYSTEMS = [
    "Tu es un assistant qui répond en français, en peu de mots.",
    "Tu commentes des matchs en direct.",
    "Tu es un guide local, aimable et précis.",
    "Réponds toujours par des phrases courtes.",
    "Tu aides à cuisiner avec ce qu'il y a dans le placard.",
    "Tu es un conteur. Tu écris simplement.",
]

EXCHANGES = [
    ("raconte l'action de la [minute]e minute.", "[player] reçoit [flank], [shot] [distance], [miss]."),
    ("commente un but de [c:club].", "[goal_call] Servi par [player], [surname] [shot] [goal_end]. [crowd]"),
    ("Minute [minute]'. Événement : Remplacement.", "[player] cède sa place à [surname], très applaudi. [crowd]"),
    ("Minute [minute]'. Événement : Carton.", "faute de [player] sur [surname]. L'arbitre sort le carton jaune."),
    ("Minute [minute]'. Événement : But.", "[goal_call] [player] [shot] [distance] [goal_end]."),
    ("Minute [minute]'. Événement : Commentaire.", "[player] centre [flank], [surname] [shot], [miss]."),
    ("quel est le score ?", "[score], à la [minute]e minute. [crowd]"),
    ("qui a gagné hier ?", "[club] a gagné [2..5]-[0..1], grâce à un but de [player]."),
    ("quel temps fera-t-il à [city] ?", "[weather_noun] [weather_verb], avec [temperature] au plus chaud."),
    ("faut-il un parapluie [day] ?", "oui : [weather_noun] [weather_verb]. [emoji]"),
    ("comment aller à [q:place] ?", "prenez [street], puis marchez [100..900] mètres. C'est [near]."),
    ("que voir à [t:city] ?", "à [t], allez voir [place], puis [place]. On y mange très bien [often]."),
    ("une idée pour le dîner ?", "[dish] : il faut [quantity] et [quantity]. [cook_step], puis [cook_step]."),
    ("comment préparer [d:dish] ?", "[cook_step]. ensuite, [cook_step]. pour finir, [cook_step]."),
    ("que fait [p:first_name] le [day] ?", "le [day], [p?il|elle] aime [activity] [reason]."),
    ("où est [o:object] ?", "[o?il|elle] est [near]. [p:person] l'a [o?vu|vue] [when]."),
    ("écris une phrase au passé composé.", "[when], [p:person] a préparé [dish]."),
    ("écris une phrase au présent.", "[animal] [animal_verb]."),
    ("mets au féminin : « un voisin content ».", "« une voisine contente »."),
    ("compte de [x:small] en [x], trois fois.", "[x], puis deux fois [x], puis trois fois [x]."),
    ("décris [place] en une phrase.", "on y croise [person], [group] et, [often], [animal] du quartier."),
    ("qui habite [near] ?", "[p:person], qui aime [activity]. [p?il|elle] y vit depuis [2..40] ans."),
    ("merci !", "de rien. Bonne journée, et à [day] ! [emoji]"),
    ("[greeting] !", "bonjour ! Que puis-je faire pour vous ?"),
    ("raconte une petite histoire avec [a:animal].", "[when], [a] s'est [a?approché|approchée] de [place]. [p:person] lui a parlé, "
     "et depuis ce jour, [a] [animal_verb]."),
]
