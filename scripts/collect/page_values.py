"""Read texts and attributes from a page by the selectors of a site, with clean white space."""

import re
import unicodedata

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from scripts.common.errors import UserError
from scripts.config.sites import INVISIBLE, selector_parts

# Elements that separate words; `l'<b>arbitre</b>` is one word.
BLOCKS = "address,article,br,dd,div,dl,dt,figcaption,h1,h2,h3,h4,h5,h6,hr,img,li,ol,p,section,svg,table,td,th,tr,ul"
NO_TEXT = ["script", "style", "template", "noscript"]
# Spaces that HTML folds into one. A no-break space belongs to the text, as before `!` in French.
FOLDED = re.compile(r"[ \t\r\n\f\v]+")


def parse(html: str) -> LexborHTMLParser:
    """Return the tree of a page, without scripts and styles; broken markup is read as browsers read it."""
    tree = LexborHTMLParser(html.encode("utf-8", "replace").decode("utf-8"))
    tree.strip_tags(NO_TEXT)
    for block in tree.css(BLOCKS):
        block.insert_before(" ")
        block.insert_after(" ")
    return tree


def clean(text: str | None) -> str:
    """Return text in NFC without invisible characters, and with single spaces; no-break spaces within it stay."""
    return FOLDED.sub(" ", INVISIBLE.sub("", unicodedata.normalize("NFC", text or ""))).strip()


def nodes(parent: LexborHTMLParser | LexborNode, css: str) -> list[LexborNode]:
    """Return the nodes of a CSS selector in the order of the page, each once. Raises UserError for a bad selector."""
    try:
        return list({node.mem_id: node for node in parent.css(css)}.values())
    except SelectolaxError:
        raise UserError(f"'{css}' is not a valid CSS selector", remedy="correct it in the section 'sites'") from None


def selected(parent: LexborHTMLParser | LexborNode, selector: str) -> list[tuple[LexborNode, str]]:
    """Return each node that a selector finds, with its text or attribute; `@attribute` alone is the parent's own.

    `href` reads `xlink:href` as well, which older icons have.
    """
    css, attribute = selector_parts(selector)
    found = nodes(parent, css) if css else [parent]
    if not attribute:
        return [(node, clean(node.text(deep=True))) for node in found]
    return [
        (node, clean(node.attributes.get(attribute) or node.attributes.get(f"xlink:{attribute}"))) for node in found
    ]


def value(parent: LexborHTMLParser | LexborNode, selector: str | None) -> str | None:
    """Return the first text or attribute that is not empty; None if there is none, or no selector."""
    return next((text for _, text in selected(parent, selector) if text), None) if selector else None


def joined(parent: LexborNode, selector: str) -> str | None:
    """Return all that a selector finds in the order of the page, each text once, with spaces; None if it is nothing."""
    return " ".join(dict.fromkeys(text for _, text in selected(parent, selector) if text)) or None
