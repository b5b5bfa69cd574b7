"""Find an entry's event type from its label or icon; its text is never consulted."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from selectolax.lexbor import LexborNode

from scripts.collect.page_values import selected
from scripts.config.sites import UNKNOWN, Entry, label, selector_parts

ICONS = ("img", "svg", "use")


def icon_name(address: str) -> str:
    """Return the name of an icon: the fragment of its address, else its file's name without extension."""
    path, _, fragment = address.partition("#")
    return fragment or PurePosixPath(path.partition("?")[0]).stem


def labels_of(item: LexborNode, entry: Entry) -> set[str]:
    """Return the labels that the selector `type` finds in an entry; a list of classes is one label.

    An icon without the attribute that is read counts as a label, so that its entry is not taken for one without icon.
    """
    if entry.type is None:
        return set()
    found = [text or (node.tag if node.tag in ICONS else "") for node, text in selected(item, entry.type)]
    is_address = (selector_parts(entry.type)[1] or "").endswith(("src", "href"))
    return {label(icon_name(text) if is_address else text) for text in found} - {""}


def types_of(name: str, entry: Entry) -> set[str]:
    """Return the event types that list a label: by the label itself, else by a pattern with `*`."""
    listed = [(label(each), kind) for kind, labels in entry.event_types.items() for each in labels]
    exact = {kind for each, kind in listed if each == name}
    return exact or {kind for each, kind in listed if re.fullmatch(re.escape(each).replace(r"\*", ".*"), name)}


def event_type(labels: Collection[str], entry: Entry, is_labelled_page: bool) -> str:
    """Return the event type of an entry with these labels: `unknown` unless each is listed by the same single type.

    On a page without any label, which a redesign may cause, an entry without labels is unknown as well.
    """
    if not labels:
        return entry.unlabelled if is_labelled_page else UNKNOWN
    found = {kind for name in labels for kind in types_of(name, entry) or {UNKNOWN}}
    return found.pop() if len(found) == 1 else UNKNOWN
