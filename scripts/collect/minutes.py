"""Read the minute of a match from a time as sites write it."""

import re

from scripts.config.sites import folded

LONGEST = 150  # minutes, with extra time and a penalty shoot-out
SIGNS = r"\s*(?:[.'’‘′`´]*|e|er|eme|o|th)\s*"
# A clock time (19:45), a score (1-0), a half ("2. Halbzeit") and a minute within a half (2T 12') are not minutes.
MINUTE = re.compile(
    r"[(\[]?(?:(?:phut|min\w*)\.?\s*)?"
    rf"(\d{{1,3}}){SIGNS}(?:\(?\+\s*(\d{{1,2}})?{SIGNS}\)?\s*)?"
    r"(?:phut|min\w*\.?|m)?[)\]]?"
)


def minute_of(time: str) -> tuple[int | None, int | None]:
    """Return minute and added minutes of a time: (45, 2) for `45'+2` and `45+2'`, (12, None) for `12 min.`.

    A time without a minute, such as `HT`, gives (None, None).
    """
    found = MINUTE.fullmatch(folded(time).replace("′", "'"))
    if not found or int(found[1]) > LONGEST:
        return None, None
    return int(found[1]), int(found[2]) if found[2] else None
