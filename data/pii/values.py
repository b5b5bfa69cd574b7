"""Values of personal data that belong to nobody: names from Faker, everything else from ranges that are reserved.

Which range, and who reserved it, stands at each function; README.md lists them.
"""

import random
import re
import string
import unicodedata
from dataclasses import dataclass
from datetime import date

from faker import Faker

MAIL_DOMAINS = ("example.org", "example.com", "example.net", "mail.example")  # RFC 2606
ROLES = {"en": ("info", "office", "support", "bookings"), "fr": ("contact", "accueil", "direction", "secretariat")}
PAGES = ("profile", "u", "members", "cv", "people")
# Numbers that payment providers publish for tests; each passes the Luhn check and belongs to no account.
CARDS = (
    "4242424242424242", "4111111111111111", "4012888888881881", "4000056655665556", "5555555555554444",
    "5105105105105100", "5200828282828210", "2223003122003222", "6011111111111117", "6011000990139424",
    "3566002020360505", "378282246310005", "371449635398431",
)  # fmt: skip
MONTHS = {
    "en": ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December"),
    "fr": ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre",
           "novembre", "décembre"),
}  # fmt: skip
PLATE_LETTERS = "ABCDEFGHJKLMNPRSTVWXYZ"


@dataclass(frozen=True)
class Person:
    """An invented person; addresses and user names follow from the name and `number`."""

    first: str
    last: str
    feminine: bool
    number: int

    @property
    def name(self) -> str:
        """Return first and last name."""
        return f"{self.first} {self.last}"


def plain_letters(text: str) -> str:
    """Return text in lower case with nothing but the letters a to z."""
    decomposed = unicodedata.normalize("NFD", text.lower().replace("œ", "oe"))
    return "".join(character for character in decomposed if character in string.ascii_lowercase)


class Values:
    """Draws values for one language and country: `locale` is en_US, en_GB or fr_FR."""

    def __init__(self, locale: str, rng: random.Random):
        self.locale, self.language, self.rng = locale, locale[:2], rng
        self.faker = Faker(locale)
        self.faker.seed_instance(rng.getrandbits(64))

    def digits(self, count: int) -> str:
        """Return a run of digits."""
        return "".join(self.rng.choices(string.digits, k=count))

    def letters(self, count: int) -> str:
        """Return a run of capital letters, without those that plates leave out."""
        return "".join(self.rng.choices(PLATE_LETTERS, k=count))

    def person(self) -> Person:
        """Return a person: first and last name as Faker draws them."""
        feminine = self.rng.random() < 0.5
        first = self.faker.first_name_female() if feminine else self.faker.first_name_male()
        return Person(first, self.faker.last_name(), feminine, self.rng.randrange(10, 99))

    def email(self, person: Person | None) -> str:
        """Return a mail address at a domain that is reserved for examples; without a person, an office's."""
        domain = self.rng.choice(MAIL_DOMAINS)
        if person is None:
            return f"{self.rng.choice(ROLES[self.language])}@{domain}"
        first, last = plain_letters(person.first), plain_letters(person.last)
        forms = (f"{first}.{last}", f"{first}_{last}", f"{first[0]}{last}", f"{last}{person.number}", f"{first}-{last}")
        return f"{self.rng.choice(forms)}@{domain}"

    def username(self, person: Person) -> str:
        """Return a user name."""
        first, last = plain_letters(person.first), plain_letters(person.last)
        forms = (f"{first}{person.number}", f"{first[0]}{last}", f"{last}_{first}", f"{first}.{last[0]}")
        return self.rng.choice(forms)

    def phone(self) -> str:
        """Return a number set aside for fiction: 555-01xx, Ofcom's drama numbers, or ARCEP's audiovisual ones."""
        rng = self.rng
        if self.locale == "en_US":
            area, last = rng.choice(("212", "303", "415", "512", "617", "808")), f"555-01{self.digits(2)}"
            return rng.choice(
                (f"({area}) {last}", f"{area}-{last}", f"+1 {area} {last}", f"{area}.{last}".replace("-", "."))
            )
        if self.locale == "en_GB":
            starts = ("020 7946 0", "0113 496 0", "0161 496 0", "01632 960", "07700 900", "0808 157 0")
            number = rng.choice(starts) + self.digits(3)
            return "+44 " + number[1:] if rng.random() < 0.3 else number
        start = rng.choice(("0199 00", "0261 91", "0353 01", "0465 71", "0536 49", "0639 98")).replace(" ", "")
        pairs = re.findall("..", start + self.digits(4))
        if rng.random() < 0.25:
            return "+33 " + " ".join([pairs[0][1:], *pairs[1:]])
        return rng.choice((" ", ".", "")).join(pairs)

    def address(self) -> str:
        """Return house number and street; streets are invented by Faker."""
        number, street = str(self.rng.randrange(1, 180)), self.faker.street_name()
        if self.language == "fr":
            extra = self.rng.choice(("", "", "", " bis", " ter"))
            return f"{number}{extra}, {street}" if self.rng.random() < 0.6 else f"{number}{extra} {street}"
        return f"{number} {street}"

    def city(self) -> str:
        """Return a town that Faker invents; French ones with an article would melt with the word before them."""
        while re.match(r"(Le|La|Les)\b", city := self.faker.city()):
            pass
        return city

    def postcode(self) -> str:
        """Return a postcode of the country's shape; no town or street that goes with it exists."""
        return self.faker.postcode()

    def company(self) -> str:
        """Return a company that Faker invents, one that is not just a surname."""
        while " " not in (name := self.faker.company()) or name.endswith("."):
            pass
        return name

    def day(self, first: int, last: int) -> date:
        """Return a day from the first of January of one year to the end of another."""
        start, end = date(first, 1, 1).toordinal(), date(last, 12, 31).toordinal()
        return date.fromordinal(self.rng.randint(start, end))

    def written(self, day: date, numeric: bool) -> str:
        """Return a date as the country writes it, in figures or with the month's name."""
        if numeric:
            return day.strftime("%m/%d/%Y" if self.locale == "en_US" else "%d/%m/%Y")
        name = MONTHS[self.language][day.month - 1]
        if self.locale == "en_US":
            return f"{name} {day.day}, {day.year}"
        return f"{'1er' if self.language == 'fr' and day.day == 1 else day.day} {name} {day.year}"

    def iban(self) -> str:
        """Return an IBAN with right check digits at a bank that does not exist.

        British: bank ZZZZ with sort code 00-00-00. German: bank code 00000000, for none begins with 0. French: bank
        99999, branch 00000, with the national key too.
        """
        if self.language == "fr":
            account = self.digits(11)
            key = 97 - (89 * 99999 + 3 * int(account)) % 97
            country, rest = "FR", f"9999900000{account}{key:02}"
        elif self.rng.random() < 0.7:
            country, rest = "GB", f"ZZZZ000000{self.digits(8)}"
        else:
            country, rest = "DE", f"00000000{self.digits(10)}"
        number = "".join(str(int(character, 36)) for character in rest + country + "00")
        iban = f"{country}{98 - int(number) % 97:02}{rest}"
        return iban if self.rng.random() < 0.3 else " ".join(re.findall(".{1,4}", iban))

    def card(self) -> str:
        """Return a payment provider's test number."""
        number = self.rng.choice(CARDS)
        groups = re.findall(".{1,4}", number) if len(number) == 16 else [number[:4], number[4:10], number[10:]]
        return self.rng.choice((" ", "-", "")).join(groups)

    def ssn(self) -> str:
        """Return a number of the social security that nobody can have.

        American: areas from 900 are never assigned, and tax numbers of that range have other middle digits. British:
        the prefix QQ is never used. French: order number 000, for births are numbered from 001; the key is right.
        """
        if self.locale == "en_US":
            return f"9{self.digits(2)}-{self.rng.randrange(1, 50):02}-{self.digits(4)}"
        if self.locale == "en_GB":
            return f"QQ {self.digits(2)} {self.digits(2)} {self.digits(2)} {self.rng.choice('ABCD')}"
        year, month = self.rng.randrange(38, 100), self.rng.randrange(1, 13)
        place = f"{self.rng.randrange(1, 96):02}{self.rng.randrange(1, 500):03}"
        number = f"{self.rng.choice('12')}{year}{month:02}{place}000"
        key = 97 - int(number) % 97
        if self.rng.random() < 0.3:
            return f"{number}{key:02}"
        return f"{number[0]} {number[1:3]} {number[3:5]} {number[5:7]} {number[7:10]} {number[10:]} {key:02}"

    def ip(self) -> str:
        """Return an address of the blocks for documentation (RFC 5737, RFC 3849)."""
        if self.rng.random() < 0.15:
            return f"2001:db8:{self.rng.randrange(1, 65536):x}::{self.rng.randrange(1, 65536):x}"
        return f"{self.rng.choice(('192.0.2', '198.51.100', '203.0.113'))}.{self.rng.randrange(1, 255)}"

    def url(self) -> str:
        """Return an address of somebody's page at a domain that is reserved for examples."""
        name, domain = self.username(self.person()), self.rng.choice(("example.org", "example.com", "example.net"))
        page = self.rng.choice(PAGES)
        forms = (f"https://{domain}/{page}/{name}", f"https://www.{domain}/{page}?id={self.digits(4)}",
                 f"http://{name.replace('_', '-')}.example/{page}")  # fmt: skip
        return self.rng.choice(forms)

    def plate(self) -> str:
        """Return a number plate that is not issued.

        French: the letters I, O and U are left out of the series. British: the age identifiers 00 and 01 are not in
        use. American: the number 0000.
        """
        if self.locale == "en_US":
            return f"{self.letters(3)} 0000" if self.rng.random() < 0.5 else f"{self.letters(3)}-0000"
        if self.locale == "en_GB":
            return f"{self.letters(2)}{self.rng.choice(('00', '01'))} {self.letters(3)}"
        separator = self.rng.choice("- ")
        return f"{self.letters(1)}{self.rng.choice('IOU')}{separator}{self.digits(3)}{separator}{self.letters(2)}"

    def passport(self) -> str:
        """Return a passport number of the country's shape that begins with zeros; no range is reserved for examples."""
        if self.locale == "en_US":
            return f"A000{self.digits(5)}"
        return f"000{self.digits(6)}" if self.locale == "en_GB" else f"00{self.letters(2)}{self.digits(5)}"
