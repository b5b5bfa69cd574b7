"""What is printed on the documents, written for this repository; names and places are invented.

English text is plain ASCII, for some of the fonts have nothing else.
"""

TITLES = {
    "report": {
        "en": (
            "Water Quality in Three Mountain Lakes",
            "What We Learned from the Night Buses",
            "Annual Report on Wild Bees",
            "Repairing Bridges before They Fail",
        ),
        "fr": (
            "Le retour des castors dans la vallée",
            "Bilan thermique des écoles du plateau",
            "Rapport sur l’éclairage des ruelles",
            "Trois hivers sans neige",
        ),
    },
    "letter": {
        "en": (
            "Closing of the footpath by the mill",
            "Your order of twelve beehives",
            "Invitation to the autumn concert",
            "New opening hours of the archive",
        ),
        "fr": (
            "Fermeture du bac pendant les travaux",
            "Votre demande de jardin partagé",
            "Remise des clés de la salle des fêtes",
            "Changement d’horaire de la navette",
        ),
    },
    "article": {
        "en": (
            "The Lighthouse That Moved Inland",
            "A Clockmaker Opens Her Workshop",
            "Fog Returns to the Salt Marsh",
            "Why Our Bakers Rise Later",
        ),
        "fr": (
            "Une librairie flottante sur le canal",
            "Les pommiers fleurissent en octobre",
            "Le dernier allumeur de réverbères",
            "Où sont passées les hirondelles ?",
        ),
    },
    "paper": {
        "en": (
            "Counting Owls by Their Echoes",
            "A Simple Model of Sand Ripples",
            "On the Drying of Wooden Hulls",
            "Measuring Wind with Kites and String",
        ),
        "fr": (
            "Mesurer le silence en forêt dense",
            "La corrosion lente des cloches",
            "Modèle simple des marées de rivière",
            "Reconnaître les nuages à l’oreille",
        ),
    },
    "invoice": {
        "en": (
            "Invoice for Spring Repairs",
            "Invoice for Piano Tuning",
            "Statement of Boat Storage",
            "Invoice for Printed Maps",
        ),
        "fr": (
            "Facture de ramonage",
            "Facture d’impression d’affiches",
            "Relevé de location de vélos",
            "Facture de restauration d’un vitrail",
        ),
    },
    "poster": {
        "en": ("Lantern Walk on the Old Dyke", "Swap Your Seeds", "The Great Paper Boat Race", "Open Air Chess Night"),
        "fr": (
            "Bal des cerfs-volants",
            "La nuit des échelles",
            "Fête du pain et de la moisson",
            "Grande braderie des poètes",
        ),
    },
    "minutes": {
        "en": (
            "Minutes of the Orchard Committee",
            "Minutes of the Harbour Council",
            "Meeting of the Choir Parents",
            "Minutes of the Library Friends",
        ),
        "fr": (
            "Compte rendu du conseil de quartier",
            "Réunion du comité des fontaines",
            "Procès-verbal de l’amicale des cyclistes",
            "Compte rendu de la commission du marché",
        ),
    },
    "recipe": {
        "en": (
            "Barley Soup with Smoked Pears",
            "Walnut Bread from the Hills",
            "Cold Plum Dumplings",
            "Rhubarb in a Jar",
        ),
        "fr": (
            "Tarte aux mûres sauvages",
            "Soupe d’orties à l’ancienne",
            "Gâteau renversé aux coings",
            "Confit d’oignons au miel",
        ),
    },
    "form": {
        "en": (
            "Application for a Market Stall",
            "Report of a Lost Umbrella",
            "Registration for the Rowing Course",
            "Request for a Street Tree",
        ),
        "fr": (
            "Demande de carte de lecteur",
            "Déclaration de ruche",
            "Inscription à l’atelier de reliure",
            "Demande de prêt d’un chariot",
        ),
    },
    "slide": {
        "en": (
            "How Tides Shape a Town",
            "Five Rules for Quiet Rooms",
            "Saving Heat in Old Houses",
            "From Wool to Thread",
        ),
        "fr": (
            "Comprendre la sève en cinq minutes",
            "Pourquoi le verre casse",
            "Les métiers du phare",
            "Réparer plutôt que jeter",
        ),
    },
}
QUESTION = {"en": "What is the title of this document?", "fr": "Quel est le titre de ce document ?"}
SYSTEM = {
    "en": "Answer with the title alone, as it is printed.",
    "fr": "Réponds par le titre seul, tel qu’il est imprimé.",
}
SENTENCES = {
    "en": (
        "The work began in early spring and took longer than planned.",
        "Two visits were made each month, one of them at night.",
        "Most of the figures come from the people who live nearby.",
        "Nobody had written this down before.",
        "The cost was shared by three villages.",
        "A second look at the numbers changed the picture.",
        "What was cheap at first turned out to be dear in the end.",
        "The weather was dry, with a light wind from the west.",
        "Some questions stay open and will be taken up next year.",
        "We thank the volunteers who lent us their boats and their time.",
        "The old method still works well on small sites.",
        "Each sample was kept in a cool room for nine days.",
        "After the first week the differences were easy to see.",
        "It is too early to say whether the change will last.",
        "The oldest notes were found in a drawer of the town hall.",
        "Children from the school helped to count and to draw.",
        "A short list of the tools stands on the last page.",
        "The result was the same in both places.",
        "Only one of the five devices had to be replaced.",
        "More light and less noise were the wishes most often heard.",
        "The plan will be shown in the hall until the end of the month.",
        "Readers are asked to send in their own observations.",
    ),
    "fr": (
        "Les travaux ont commencé au printemps et ont duré plus longtemps que prévu.",
        "Deux visites ont eu lieu chaque mois, dont une de nuit.",
        "La plupart des chiffres viennent des habitants eux-mêmes.",
        "Personne ne l’avait noté jusqu’ici.",
        "La dépense a été partagée entre trois communes.",
        "Un second regard sur les mesures a changé le tableau.",
        "Ce qui semblait bon marché s’est révélé coûteux à la longue.",
        "Le temps était sec, avec un léger vent d’ouest.",
        "Certaines questions restent ouvertes et seront reprises l’an prochain.",
        "Nous remercions les bénévoles qui ont prêté leurs barques et leur temps.",
        "L’ancienne méthode convient encore aux petits sites.",
        "Chaque échantillon a été gardé au frais pendant neuf jours.",
        "Après la première semaine, les écarts étaient nets.",
        "Il est trop tôt pour dire si le changement durera.",
        "Les plus vieilles notes dormaient dans un tiroir de la mairie.",
        "Les enfants de l’école ont aidé à compter et à dessiner.",
        "La liste des outils se trouve à la dernière page.",
        "Le résultat fut le même aux deux endroits.",
        "Un seul des cinq appareils a dû être remplacé.",
        "Plus de lumière et moins de bruit : voilà ce qui revenait le plus souvent.",
        "Le projet sera exposé dans la salle jusqu’à la fin du mois.",
        "Les lecteurs sont invités à envoyer leurs propres observations.",
    ),
}
STEPS = {
    "en": (
        "Wash everything and cut it into small pieces.",
        "Heat the oil slowly, without letting it smoke.",
        "Stir until it smells of bread.",
        "Add water until all is covered.",
        "Leave it to rest under a cloth for an hour.",
        "Taste, and add salt if you like.",
        "Bake on the lowest shelf until golden.",
        "Serve warm on a deep plate.",
        "What is left keeps for three days in a cool place.",
    ),
    "fr": (
        "Laver le tout et le couper en petits morceaux.",
        "Chauffer le beurre doucement, sans le laisser brunir.",
        "Remuer jusqu’à ce que cela sente le pain.",
        "Couvrir d’eau à hauteur.",
        "Laisser reposer une heure sous un torchon.",
        "Goûter, et saler si besoin.",
        "Cuire en bas du four jusqu’à ce que le dessus soit doré.",
        "Servir tiède dans une assiette creuse.",
        "Le reste se garde trois jours au frais.",
    ),
}
# Who signs or publishes: printed above or below the title, and never the answer.
ISSUERS = {
    "en": (
        "Institute of Small Rivers", "The Marsh Courier", "Town of Fennbridge", "Hollin and Daughters",
        "Society for Slow Science", "Harrowdale Public Works", "The Quarry Street Club", "Port Ansley Office",
    ),
    "fr": (
        "Institut des petites rivières", "Le Courrier du marais", "Commune de Brévannes-le-Haut", "Ateliers Mordelin",
        "Société des sciences lentes", "Service des eaux de Valserine", "Cercle de la rue Haute", "Port de Saint-Elme",
    ),
}  # fmt: skip
PEOPLE = {
    "en": ("Ada Merrin", "Tom Halloway", "Ruth Okafor", "Ivo Lindqvist", "Clara Dunmore", "Sam Petrakis"),
    "fr": ("Élise Caradec", "Hugo Vernier", "Aïcha Belmont", "Noël Tessier", "Jeanne Roubaix", "Paul Ancelin"),
}
DATES = {
    "en": ("3 March 2026", "17 April 2026", "9 June 2026", "21 September 2026", "30 October 2026"),
    "fr": ("3 mars 2026", "17 avril 2026", "9 juin 2026", "21 septembre 2026", "30 octobre 2026"),
}
LINES = {
    "invoice": {
        "en": ("Labour, 6 hours", "Oak boards", "Delivery by cart", "Oil and wax", "Small parts", "Travel"),
        "fr": ("Main-d’œuvre, 6 heures", "Planches de chêne", "Livraison", "Huile et cire", "Petit matériel", "Trajet"),
    },
    "recipe": {
        "en": (
            "200 g barley",
            "3 ripe pears",
            "1 leek",
            "a pinch of salt",
            "half a lemon",
            "2 spoons of oil",
            "4 eggs",
        ),
        "fr": ("200 g de farine", "3 œufs", "1 poireau", "une pincée de sel", "un demi-citron", "80 g de beurre"),
    },
    "form": {
        "en": ("Family name", "First name", "Street and number", "Town", "Telephone", "Reason", "Day and hour"),
        "fr": ("Nom", "Prénom", "Rue et numéro", "Commune", "Téléphone", "Motif", "Jour et heure"),
    },
    "slide": {
        "en": ("start with a drawing", "measure twice", "ask the neighbours", "keep what works", "write it down"),
        "fr": (
            "commencer par un dessin",
            "mesurer deux fois",
            "interroger les voisins",
            "tout noter",
            "garder l’utile",
        ),
    },
}
WORDS = {
    "en": {
        "subject": "Subject: ", "greeting": "Dear neighbours,", "closing": "Yours sincerely,", "abstract": "Abstract",
        "introduction": "1 Introduction", "total": "Total", "present": "Present: ", "page": "page ", "by": "By ",
        "method": "Method", "ingredients": "Ingredients", "number": "No. ", "sign": "Date and signature",
        "free": "Free entry, bring a friend", "amount": "{}.{:02d}",
    },
    "fr": {
        "subject": "Objet : ", "greeting": "Chers voisins,", "closing": "Bien cordialement,", "abstract": "Résumé",
        "introduction": "1 Introduction", "total": "Total", "present": "Présents : ", "page": "page ", "by": "Par ",
        "method": "Préparation", "ingredients": "Ingrédients", "number": "N° ", "sign": "Date et signature",
        "free": "Entrée libre, venez nombreux", "amount": "{},{:02d} €",
    },
}  # fmt: skip
