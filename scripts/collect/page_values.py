"""Read texts and attributes from a page by the selectors of a site, with clean white space."""

import re
import unicodedata

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from scripts.common.errors import UserError
from scripts.config.sites import selector_parts

# Elements that separate words; `l'<b>arbitre</b>` is one word.
BLOCKS = "address,article,br,dd,div,dl,dt,figcaption,h1,h2,h3,h4,h5,h6,hr,img,li,ol,p,section,svg,table,td,th,tr,ul"
NO_TEXT = ["script", "style", "template", "noscript"]
# Spaces that HTML folds into one. A no-break space belongs to the text, as before `!` in French.
FOLDED = re.compile(r"[ \t\r\n\f\v]+")
INVISIBLE = re.compile("[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u00ad\u200b\u2060\ufeff]")


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


def folded(text: str) -> str:
    """Return text without case and accents and with single spaces, for comparisons."""
    plain = "".join(each for each in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(each))
    return " ".join(INVISIBLE.sub("", plain).split())


def nodes(parent: LexborHTMLParser | LexborNode, css: str) -> list[LexborNode]:
    """Return the nodes of a CSS selector in the order of the page, each once. Raises UserError for a bad selector."""
    try:
        return list({node.mem_id: node for node in parent.css(css)}.values())
    except SelectolaxError:
        raise UserError(f"'{css}' is not a valid CSS selector", remedy="correct it in the section 'sites'") from None


def selected(parent: LexborHTMLParser | LexborNode, selector: str) -> list[tuple[LexborNode, str]]:
    """Return each node that a selector finds, with its text or attribute; `@attribute` alone is the parent's own."""
    css, attribute = selector_parts(selector)
    found = nodes(parent, css) if css else [parent]
    return [(node, clean(node.attributes.get(attribute) if attribute else node.text(deep=True))) for node in found]


def value(parent: LexborHTMLParser | LexborNode, selector: str | None) -> str | None:
    """Return the first text or attribute that is not empty; None if there is none, or no selector."""
    return next((text for _, text in selected(parent, selector) if text), None) if selector else None
