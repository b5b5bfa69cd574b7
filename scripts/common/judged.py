"""The hash of what a person judged: a vote counts as long as prompt and answer are the same."""

import unicodedata

from scripts.common.files import canonical_sha256


def judged_hash(prompt: list[dict], answer: str) -> str:
    """Return 32 hex digits of the SHA-256 of a prompt (`messages` of an answers file) and an answer.

    The answer is in NFC without outer white space, as the metrics see it.
    """
    return canonical_sha256([prompt, unicodedata.normalize("NFC", answer).strip()])[:32]
