"""The layouts of the documents: each draws one page with Pillow, in one family of fonts."""

import io
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from data.titles.texts import DATES, ISSUERS, LINES, PEOPLE, SENTENCES, STEPS, WORDS

PORTRAIT, LANDSCAPE = (256, 352), (352, 256)
MARGIN = 18
INK, GREY, PALE, PAPER = 0, 102, 204, 255  # multiples of 17: the files have 16 shades
BODY = 8  # pixels, as are all sizes of fonts
# Regular, bold and italic: files that matplotlib ships. Pillow's own font is the seventh family.
FAMILIES = {
    "sans": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique"),
    "serif": ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    "mono": ("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
    "stix": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    "computer-modern": ("cmr10", "cmb10", "cmti10"),
    "typewriter": ("cmtt10", "cmtt10", "cmtt10"),
}
ASCII_ONLY = ("computer-modern", "typewriter", "aileron")
STYLES = ("regular", "bold", "italic")
FAMILIES_OF = {
    "en": ("sans", "computer-modern", "serif", "aileron", "stix", "typewriter", "mono"),
    "fr": ("serif", "sans", "stix", "mono"),
}


@cache
def font(family: str, style: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font of a size in pixels. The basic layout engine gives the same picture on every machine."""
    if family == "aileron":
        return ImageFont.load_default(size)
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts/ttf" / f"{FAMILIES[family][STYLES.index(style)]}.ttf"
    return ImageFont.truetype(io.BytesIO(file.read_bytes()), size, layout_engine=ImageFont.Layout.BASIC)


class Page:
    """One page in the making: `y` is where the next block goes."""

    def __init__(self, size: tuple[int, int], family: str, language: str, rng: random.Random):
        self.image = Image.new("L", size, PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.width, self.height = size
        self.family, self.language, self.rng = family, language, rng
        self.words = WORDS[language]
        self.y = MARGIN
        self.left, self.column = MARGIN, size[0] - 2 * MARGIN

    def one(self, texts: dict) -> str:
        """Return one of the texts of the page's language."""
        return self.rng.choice(texts[self.language])

    def some(self, texts: dict, count: int) -> list[str]:
        """Return several different texts of the page's language."""
        return self.rng.sample(texts[self.language], count)

    def wrapped(self, text: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
        """Return the lines of a text; only a word that is wider than the column stands out."""
        lines = [""]
        for word in text.split(" "):
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and face.getlength(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines

    def write(self, text: str, size: int = BODY, style: str = "regular", align: str = "left", ink: int = INK) -> None:
        """Draw a block of text as wide as the column, and move on below it."""
        face = font(self.family, style, size)
        for line in self.wrapped(text, face, self.column):
            free = self.column - face.getlength(line)
            x = self.left + {"left": 0, "centre": free / 2, "right": free}[align]
            self.draw.text((round(x), self.y), line, ink, font=face)
            self.y += round(size * 1.3)

    def title(self, text: str, size: int, style: str = "bold", align: str = "left", ink: int = INK) -> None:
        """Draw the title in a size in which each word fits the column and there are three lines at most."""
        while size > BODY:
            face = font(self.family, style, size)
            lines = self.wrapped(text, face, self.column)
            if len(lines) <= 3 and max(map(face.getlength, lines)) <= self.column:
                break
            size -= 1
        self.write(text, size, style, align, ink)

    def prose(self, sentences: int, bottom: int | None = None) -> None:
        """Draw a paragraph of some sentences; what would go below `bottom` is left out."""
        face = font(self.family, "regular", BODY)
        for line in self.wrapped(" ".join(self.some(SENTENCES, sentences)), face, self.column):
            if self.y > (bottom or self.height - MARGIN) - BODY:
                return
            self.write(line)
        self.y += 4

    def rule(self, ink: int = INK, width: int = 1) -> None:
        """Draw a line across the column."""
        self.draw.line((self.left, self.y, self.left + self.column, self.y), ink, width)
        self.y += 5

    def row(self, left: str, right: str, style: str = "regular") -> None:
        """Draw a line of text with an amount at its right end."""
        start = self.y
        self.write(right, style=style, align="right")
        self.y = start
        self.write(left, style=style)
        self.y += 3

    def foot(self) -> None:
        """Draw the number of the page."""
        self.y = self.height - MARGIN
        self.write(f"{self.words['page']}{self.rng.randint(1, 9)}", align="centre", ink=GREY)


def draw_report(page: Page, title: str) -> None:
    """Draw a title page: issuer, title in the middle, date, and the start of a text."""
    page.write(page.one(ISSUERS).upper(), 9, align="centre", ink=GREY)
    page.y += 40
    page.title(title, 22, align="centre")
    page.y += 6
    page.write(page.one(DATES), 9, "italic", "centre")
    page.y += 20
    page.rule(GREY)
    page.prose(9, page.height - 34)
    page.foot()


def draw_letter(page: Page, title: str) -> None:
    """Draw a letter: the title is its subject."""
    page.write(page.one(ISSUERS))
    page.write(page.one(PEOPLE))
    page.y += 12
    page.write(page.one(DATES), align="right")
    page.y += 16
    page.title(page.words["subject"] + title, 12)
    page.y += 10
    page.write(page.words["greeting"])
    page.y += 5
    for _ in range(2):
        page.prose(4)
    page.y += 6
    page.write(page.words["closing"])
    page.y += 10
    page.write(page.one(PEOPLE), 11, "italic")


def draw_article(page: Page, title: str) -> None:
    """Draw an article of a newspaper: its name above, the title at the left, a byline, a picture."""
    page.write(page.one(ISSUERS), 11, "italic")
    page.rule(INK, 2)
    page.y += 6
    page.title(title, 20)
    page.y += 2
    page.write(f"{page.words['by']}{page.one(PEOPLE)}, {page.one(DATES)}", ink=GREY)
    page.y += 5
    top = page.y
    page.draw.rectangle((page.left, top, page.left + page.column, top + 60), PALE)
    hills = [page.rng.randint(12, 50) for _ in range(6)]
    step = page.column / (len(hills) - 1)
    outline = [(page.left + n * step, top + 60 - hill) for n, hill in enumerate(hills)]
    page.draw.polygon([(page.left, top + 60), *outline, (page.left + page.column, top + 60)], GREY)
    page.y = top + 68
    page.prose(5)
    page.prose(6)


def draw_paper(page: Page, title: str) -> None:
    """Draw a scientific paper: title and authors in the middle, an abstract, two columns."""
    page.write(f"{page.one(ISSUERS)}, {page.words['number']}{page.rng.randint(2, 60)}", ink=GREY)
    page.y += 10
    page.title(title, 17, "bold", "centre")
    page.y += 4
    page.write(", ".join(page.some(PEOPLE, 2)), 9, align="centre")
    page.y += 8
    left, column = page.left, page.column
    page.left, page.column = left + 22, column - 44
    page.write(page.words["abstract"], style="bold", align="centre")
    page.prose(2)
    page.y += 4
    top = page.y
    page.column = column // 2 - 5
    for number, page.left in enumerate((left, left + column // 2 + 5)):
        page.y = top
        if not number:
            page.write(page.words["introduction"], style="bold")
        page.prose(9, page.height - 34)
    page.left, page.column = left, column
    page.foot()


def draw_invoice(page: Page, title: str) -> None:
    """Draw an invoice: the sender in large letters, the title, lines with amounts, a total."""
    page.write(page.one(ISSUERS), 14, "italic")
    page.write(page.one(DATES), align="right")
    page.write(f"{page.words['number']}2026-{page.rng.randint(100, 999)}", align="right")
    page.y += 18
    page.title(title, 15)
    page.y += 6
    page.rule()
    total = 0
    for line in page.some(LINES["invoice"], 5):
        cents = 5 * page.rng.randint(100, 9000)
        total += cents
        page.row(line, page.words["amount"].format(*divmod(cents, 100)))
    page.rule()
    page.row(page.words["total"], page.words["amount"].format(*divmod(total, 100)), "bold")
    page.y += 24
    page.prose(2)


def draw_poster(page: Page, title: str) -> None:
    """Draw a poster: white on black in the upper half, the title in very large letters."""
    page.draw.rectangle((0, 0, page.width, 220), INK)
    for _ in range(14):
        x, y, r = page.rng.randint(0, page.width), page.rng.randint(0, 60), page.rng.randint(1, 4)
        page.draw.ellipse((x - r, y - r, x + r, y + r), GREY)
    page.y = 80
    page.title(title, 34, "bold", "centre", PAPER)
    page.y = 240
    page.write(page.one(DATES), 16, align="centre")
    page.y += 8
    page.write(page.one(ISSUERS), 11, "italic", "centre")
    page.y += 12
    page.write(page.words["free"], 9, align="centre", ink=GREY)


def draw_minutes(page: Page, title: str) -> None:
    """Draw the minutes of a meeting: title, who was there, numbered items."""
    page.title(title, 16)
    page.write(page.one(DATES), 9, "italic")
    page.y += 4
    page.write(page.words["present"] + ", ".join(page.some(PEOPLE, 4)))
    page.y += 8
    for number, sentence in enumerate(page.some(SENTENCES, 8), 1):
        page.write(f"{number}. {sentence}")
        page.y += 6
    page.foot()


def draw_recipe(page: Page, title: str) -> None:
    """Draw a recipe: title over a line, a list at the left, the method at the right."""
    page.title(title, 20, "italic", "centre")
    page.y += 4
    page.rule(GREY, 2)
    top, left, column = page.y + 8, page.left, page.column
    page.y, page.column = top, 78
    page.write(page.words["ingredients"], 9, "bold")
    for line in page.some(LINES["recipe"], 5):
        page.write(f"- {line}")
        page.y += 3
    page.y, page.left, page.column = top, left + 90, column - 90
    page.write(page.words["method"], 9, "bold")
    for step in page.some(STEPS, 6):
        page.write(step)
        page.y += 4


def draw_form(page: Page, title: str) -> None:
    """Draw a form: title in a box, lines to fill in."""
    page.draw.rectangle((page.left, page.y, page.left + page.column, page.y + 52), PALE, INK)
    page.y += 8
    page.left, page.column = page.left + 8, page.column - 16
    page.title(title, 15)
    page.left, page.column, page.y = page.left - 8, page.column + 16, MARGIN + 60
    page.write(page.one(ISSUERS), 9, "italic", ink=GREY)
    page.y += 10
    for line in page.some(LINES["form"], 6):
        page.write(line)
        page.draw.line((page.left + 90, page.y, page.left + page.column, page.y), GREY)
        page.y += 14
    page.y += 10
    page.write(page.words["sign"])


def draw_slide(page: Page, title: str) -> None:
    """Draw a slide, wider than high: title over a bar, points below."""
    page.title(title, 24)
    page.draw.rectangle((0, page.y + 4, page.width, page.y + 9), GREY)
    page.y += 26
    for line in page.some(LINES["slide"], 4):
        page.write(f"- {line}", 14)
        page.y += 10
    page.y = page.height - MARGIN - 4
    page.write(f"{page.one(PEOPLE)}, {page.one(ISSUERS)}", 9, align="right", ink=GREY)


LAYOUTS: dict[str, Callable[[Page, str], None]] = {
    "report": draw_report,
    "letter": draw_letter,
    "article": draw_article,
    "paper": draw_paper,
    "invoice": draw_invoice,
    "poster": draw_poster,
    "minutes": draw_minutes,
    "recipe": draw_recipe,
    "form": draw_form,
    "slide": draw_slide,
}
