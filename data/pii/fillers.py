"""Words of the texts that are no personal data: things, hours, amounts, numbers that identify nobody."""

import random

WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "fr": ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi"),
}
LISTS = {
    "en": {
        "item": (
            "desk lamp", "coffee grinder", "rain jacket", "camping stove", "bread knife", "garden chair", "tent",
            "record player", "travel bag", "winter coat", "bicycle pump", "board game", "hand drill", "tea set",
            "head torch", "yoga mat",
        ),
        "topic": (
            "food waste", "bird migration", "public transport", "typography", "solar heating", "open standards",
            "the new warehouse", "staff training", "local history", "water quality",
        ),
        "job": (
            "warehouse manager", "nurse", "site engineer", "tax clerk", "pastry cook", "data analyst", "librarian",
            "gardener", "sound technician", "receptionist",
        ),
        "symptom": (
            "a dry cough", "lower back pain", "a sprained ankle", "recurrent headaches", "a skin rash",
            "a sore throat", "dizziness", "pain in the left knee",
        ),
        "dept": ("accounting", "the front desk", "purchasing", "the lab", "customer service", "the stock room"),
        "system": (
            "the booking page", "the payroll program", "the stock list", "the map view", "the customer portal",
            "the mobile app", "the calendar", "the archive",
        ),
    },
    "fr": {
        "job": (
            "comptable", "juriste", "graphiste", "architecte", "bibliothécaire", "géomètre", "fleuriste",
            "responsable logistique", "chef de projet", "chimiste",
        ),
        "symptom": (
            "une toux sèche", "des douleurs au dos", "une entorse de la cheville", "des maux de tête",
            "une éruption cutanée", "une angine", "des vertiges", "une douleur au genou gauche",
        ),
        "topic_of": (
            "du gaspillage alimentaire", "des oiseaux migrateurs", "des transports en commun", "de la typographie",
            "du chauffage solaire", "des logiciels libres", "du nouvel entrepôt", "de la formation du personnel",
            "de la qualité de l’eau", "du budget",
        ),
    },
}  # fmt: skip
FRENCH_ITEMS = (  # feminine or not, and the thing
    (True, "lampe de bureau"), (False, "moulin à café"), (True, "veste de pluie"), (False, "réchaud"),
    (False, "couteau à pain"), (True, "chaise de jardin"), (True, "tente"), (False, "tourne-disque"),
    (False, "sac de voyage"), (False, "manteau d’hiver"), (True, "pompe à vélo"), (False, "jeu de société"),
    (True, "perceuse"), (False, "service à thé"), (True, "lampe frontale"), (False, "tapis de yoga"),
)  # fmt: skip
ARTICLES = {"item_the": ("le", "la"), "item_a": ("un", "une"), "item_of": ("du", "de la")}
OF_GENDER = {
    "en": {"title": ("Mr", "Ms"), "title_long": ("Mr", "Ms"), "e": ("", "")},
    "fr": {"title": ("M.", "Mme"), "title_long": ("Monsieur", "Madame"), "e": ("", "e")},
}


class Fillers:
    """Draws words for a locale."""

    def __init__(self, locale: str, rng: random.Random):
        self.locale, self.language, self.rng = locale, locale[:2], rng

    def of_gender(self, kind: str, feminine: bool) -> str:
        """Return a title, or the ending of a participle."""
        return OF_GENDER[self.language][kind][feminine]

    def value(self, kind: str) -> str:
        """Return a word or a number of a kind."""
        if kind in LISTS[self.language]:
            return self.rng.choice(LISTS[self.language][kind])
        if kind in ARTICLES:
            feminine, thing = self.rng.choice(FRENCH_ITEMS)
            return f"{ARTICLES[kind][feminine]} {thing}"
        return getattr(self, kind)()

    def weekday(self) -> str:
        """Return a day of the week."""
        return self.rng.choice(WEEKDAYS[self.language])

    def time(self) -> str:
        """Return a time of day."""
        hour, minute = self.rng.randrange(7, 21), self.rng.randrange(0, 60, 5)
        if self.language == "fr":
            return f"{hour}\u00a0h\u00a0{minute:02}" if self.rng.random() < 0.5 else f"{hour}h{minute:02}"
        if self.locale == "en_US":
            return f"{(hour - 1) % 12 + 1}:{minute:02} {'am' if hour < 12 else 'pm'}"
        return f"{hour:02}:{minute:02}"

    def amount(self) -> str:
        """Return an amount of money."""
        whole, cents = self.rng.randrange(8, 4000), self.rng.choice((0, 0, 20, 50, 90, 99))
        if self.language == "fr":
            grouped = f"{whole:,}".replace(",", "\u202f")
            return f"{grouped},{cents:02}\u00a0€" if cents else f"{grouped}\u00a0€"
        sign = "$" if self.locale == "en_US" else "£"
        return f"{sign}{whole:,}.{cents:02}" if cents else f"{sign}{whole:,}"

    def number(self) -> str:
        """Return a number of three to five digits."""
        return str(self.rng.randrange(100, 65000))

    def hundreds(self) -> str:
        """Return a number of three digits, such as a room's."""
        return str(self.rng.randrange(101, 900))

    def height(self) -> str:
        """Return a height in metres, as of a mountain hut."""
        return str(self.rng.randrange(800, 3000, 10))

    def digit(self) -> str:
        """Return a number from 2 to 9."""
        return str(self.rng.randrange(2, 10))

    def minutes(self) -> str:
        """Return a round number from 10 to 90."""
        return str(self.rng.randrange(10, 95, 5))

    def ticket(self) -> str:
        """Return the number of a ticket."""
        return f"#{self.rng.randrange(10000, 99999)}"

    def reference(self) -> str:
        """Return the number of an order, an invoice or a device."""
        return f"{self.rng.choice(('R', 'ORD', 'K', 'NX'))}-{self.rng.randrange(10000, 99999)}"

    def version(self) -> str:
        """Return the version of a program; some look like addresses of a network."""
        parts = [self.rng.randrange(1, 12), self.rng.randrange(0, 30), self.rng.randrange(0, 20)]
        return ".".join(map(str, [*parts, self.rng.randrange(1, 90)] if self.rng.random() < 0.3 else parts))

    def ssn_name(self) -> str:
        """Return what the number of the social security is called."""
        return "SSN" if self.locale == "en_US" else "NI number"

    def postcode_name(self) -> str:
        """Return what a postcode is called."""
        return "ZIP code" if self.locale == "en_US" else "Postcode"
