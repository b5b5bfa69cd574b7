"""Find an entry's event type from its label or icon; its text is never consulted."""

import re
from collections.abc import Collection

from selectolax.lexbor import LexborNode

from scripts.collect.page_values import folded, selected
from scripts.config.sites import UNKNOWN, Entry, selector_parts

# Attributes that hold names rather than words for readers: a class, or the address of an icon.
NAMES = {"class": r"\s+", "src": r"[^\w-]+", "href": r"[^\w-]+", "xlink:href": r"[^\w-]+"}
ICONS = ("img", "svg", "use")
LONGEST = 200  # characters of a label
EDGES = re.compile(r"^[^\w*]+|[^\w*]+$")


def label(text: str) -> str:
    """Return a label for comparison: without case and accents, and without signs around it."""
    plain = folded(text[:LONGEST])
    return EDGES.sub("", plain) or plain


def labels_of(item: LexborNode, entry: Entry) -> set[str]:
    """Return the labels that the selector `type` finds in an entry; a class has several names.

    An icon without the attribute that is read counts as a label, so that its entry is not taken for one without icon.
    """
    if entry.type is None:
        return set()
    pattern = NAMES.get(selector_parts(entry.type)[1])
    found = [text or (node.tag if node.tag in ICONS else "") for node, text in selected(item, entry.type)]
    return {label(part) for text in found for part in (re.split(pattern, text) if pattern else [text])} - {""}


def common_names(labels: list[set[str]], entry: Entry) -> set[str]:
    """Return the unlisted names that every entry of a page has, such as the class `icon`: they tell nothing."""
    if entry.type is None or selector_parts(entry.type)[1] not in NAMES:
        return set()
    return {name for name in set.intersection(*labels) if not types_of(name, entry)}


def types_of(name: str, entry: Entry) -> set[str]:
    """Return the event types that list a label: by the label itself, else by a pattern with `*`."""
    listed = [(label(each), kind) for kind, labels in entry.event_types.items() for each in labels]
    exact = {kind for each, kind in listed if each == name}
    return exact or {kind for each, kind in listed if re.fullmatch(re.escape(each).replace(r"\*", ".*"), name)}


def event_type(labels: Collection[str], entry: Entry, is_labelled_page: bool) -> str:
    """Return the event type of an entry with these labels: `unknown` unless exactly one type lists them.

    On a page without any label, which a redesign may cause, an entry without labels is unknown as well.
    """
    if not labels:
        return entry.unlabelled if is_labelled_page else UNKNOWN
    found = set().union(*(types_of(name, entry) for name in labels))
    return found.pop() if len(found) == 1 else UNKNOWN
