"""Thousands of strings on which tokenizers tend to differ, the same ones each time."""

import random
import unicodedata

SPACES = [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\r", "\u00a0", "\u202f", "\u3000", "\u2009", "\u2028", "\x0b"]
TEXTS = {
    "english": "the goal couldn't we're I'LL it's Don't striker's minute a 4-4-2 kick-off e.g. naïve co-op",
    "french": "l'équipe d'aujourd'hui été œuvre À où ça garçon but! « tir » n°9 Ligue 1 : 2-1 carton",
    "vietnamese": "Ngày xửa ngày xưa, trong một ngôi làng nhỏ đường phố tiếng Việt người nghĩa ướt sườn Đặng",
    "code": "def f(x): return x**2 if(a==b){} <html> #include <stdio.h> SELECT * FROM t; λx.x $HOME/.bashrc 0x1F \\n",
    "other": "日本語 한국어 Привет мир مرحبا שלום ไทย हिन्दी ελληνικά 𝔘𝔫𝔦 ﬁ Ⅷ ² ½ ① ٣٤",
    "emoji": "😀 👩‍👩‍👧 🇫🇷 👍🏽 ⚽ 🥅 🏆 🤦🏽‍♂️ ❤️ 👏👏",
}
WORDS = {kind: text.split() for kind, text in TEXTS.items()}
SENTENCES = [
    "But de la tête à la 23e minute, le gardien était battu.",
    "Remplacement pour l'équipe de France : le numéro 9 entre en jeu, c'est le 2-1 !",
    "Lá bài bảo vệ giúp cả cộng đồng vượt qua cơn bão dữ.",
    "The defending player clears the ball off the line with his face; 3,000 fans can't believe it.",
    "for i in range(10):\n    print(f'{i:>3} {i ** 2}')\n\n\treturn None\n",
    "Face! Head! Pim! Head! 👏",
    '{"name": "x", "values": [1, 2.5, -3e10], "ok": true}\n',
]


def hard_strings(special: list[str], count: int = 12_000) -> list[str]:
    """Return `count` different strings: digits, code, emoji, languages, white space, and special tokens within text."""
    random_ = random.Random(20260101)
    assigned = [chr(point) for point in range(1, 0x2FFFF) if unicodedata.category(chr(point)) not in ("Cs", "Cn", "Co")]
    makers = [
        lambda: str(random_.randrange(10 ** random_.randint(1, 12))),
        lambda: random_.choice(["", "$", "-", "+"]) + f"{random_.uniform(-1e6, 1e6):,.{random_.randint(0, 5)}f}",
        lambda: "".join(random_.choice(SPACES) for _ in range(random_.randint(1, 8))),
        lambda: words_of(random_, random_.choice(list(WORDS.values()))),
        lambda: words_of(random_, [word for words in WORDS.values() for word in words]),
        lambda: between(random_, random_.choice(SENTENCES), special),
        lambda: between(random_, words_of(random_, WORDS["vietnamese"] + WORDS["emoji"]), special),
        lambda: unicodedata.normalize(random_.choice(["NFC", "NFD"]), random_.choice(SENTENCES)),
        lambda: "".join(random_.choice(assigned) for _ in range(random_.randint(1, 12))),
        lambda: "".join(chr(random_.randrange(32, 127)) for _ in range(random_.randint(1, 30))),
        lambda: cut(random_, random_.choice(special)) + random_.choice(SENTENCES),
        lambda: random_.choice("abc-=.!'\"`#") * random_.randint(1, 40),
    ]
    found: dict[str, None] = {}
    while len(found) < count:
        found[random_.choice(makers)()] = None
    return list(found)


def words_of(random_: random.Random, words: list[str]) -> str:
    """Return some of the words, with white space or nothing between them."""
    gaps = [*SPACES, " ", " ", " ", ""]
    return "".join(random_.choice(words) + random_.choice(gaps) for _ in range(random_.randint(1, 12)))


def between(random_: random.Random, text: str, special: list[str]) -> str:
    """Return a text with special tokens put into it."""
    for _ in range(random_.randint(1, 3)):
        place = random_.randint(0, len(text))
        text = text[:place] + random_.choice(special) + text[place:]
    return text


def cut(random_: random.Random, text: str) -> str:
    """Return a part of a text."""
    return text[random_.randint(0, 2) : random_.randint(3, len(text) + 3)]
