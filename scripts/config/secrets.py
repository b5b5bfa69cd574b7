"""Refuse a configuration that contains secrets, without showing them.

Settings are written to logs, results and Snakemake's own files. Tokens must come from the environment.
"""

import re
from collections.abc import Iterator
from typing import Any

from scripts.config.faults import dotted

SECRET_KEY = re.compile(
    r"(^|[_.-])(token|secret|password|passwd|passphrase|credentials?|api_?key|access_?key(_?id)?|private_?key)$",
    re.IGNORECASE,
)
# Patterns of tokens, mostly by the prefixes that their issuers use.
SECRET_VALUES = {
    "a Hugging Face token": re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{16,}\b"),
    "a GitHub token": re.compile(r"\b(gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,})\b"),
    "a GitLab token": re.compile(r"\bglpat-[\w-]{16,}"),
    "an AWS key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    # Requires a capital letter, because a name such as sk-news-articles-2024 (sk: Slovak) is not a key.
    "an API key": re.compile(r"\b(sk|pk|rk)-(?=[\w-]*[A-Z])(?=[\w-]*\d)[A-Za-z0-9_-]{20,}"),
    "a Slack token": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "a web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]*"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an address with a password": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/@:]*:[^\s/@]+@", re.IGNORECASE),
}
# Mappings with keys that the user chooses, such as classes of personal data.
OWN_KEYS = ("label_map", "span_label_map", "columns", "fields")


def secret_lines(value: Any, place: tuple = ()) -> Iterator[str]:
    """Yield a line for each setting that is a secret by its key or its pattern; the line does not show the secret."""
    if isinstance(value, dict):
        for key, item in value.items():
            here = (*place, key if isinstance(key, int) else str(key))
            named = SECRET_KEY.search(str(key)) and not set(place) & set(OWN_KEYS)
            if named and isinstance(item, str) and item:
                yield refusal(here, "a secret by its name")
            else:
                yield from secret_lines(item, here)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from secret_lines(item, (*place, number))
    elif isinstance(value, str):
        kind = next((kind for kind, pattern in SECRET_VALUES.items() if pattern.search(value)), None)
        if kind:
            yield refusal(place, kind)


def refusal(place: tuple, kind: str) -> str:
    """Return the message for a refused setting, without secrets that are part of its key."""
    shown = dotted(place)
    for pattern in SECRET_VALUES.values():
        shown = pattern.sub("…", shown)
    return f"{shown}: is {kind}, which must not be in a configuration; use an environment variable (HF_TOKEN etc.)"
