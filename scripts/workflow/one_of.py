"""The regular expression of some names, for the constraints of wildcards."""

import os
import re
from collections.abc import Iterable
from itertools import groupby


def one_of(names: Iterable[str]) -> str:
    """Return the regular expression that matches these names and nothing else; of no names, one that never matches.

    Beginnings that names share are written once. Snakemake compiles the expression for each file of a rule and tries it
    on each file of the workflow, which takes seconds with the thousand names of a sweep beside each other.
    """
    return _alternatives(sorted(set(names))) or "(?!)"


def _alternatives(names: list[str]) -> str:
    """Return the expression of sorted names; those with the same first character are one alternative."""
    parts = []
    for _, group in groupby(names, key=lambda name: name[:1]):
        same = list(group)
        start = os.path.commonprefix(same)  # noqa: RUF071 of names, not of paths
        ends = [name[len(start) :] for name in same]
        parts.append(re.escape(start) + (f"(?:{_alternatives(ends)})" if len(same) > 1 else ""))
    return "|".join(parts)
