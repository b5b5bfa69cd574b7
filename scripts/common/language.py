"""Language tags."""


def language_of(tag: str | None) -> str:
    """Return the language subtag of a BCP 47 tag: `fr` of `fr-CA`; empty when there is none."""
    return tag.replace("_", "-").split("-")[0].lower() if tag else ""
