"""Language tags."""


def language_of(tag: str | None) -> str:
    """Return the language subtag of a BCP 47 tag, such as `fr` for `fr-CA`; empty if there is no tag."""
    return tag.replace("_", "-").split("-")[0].lower() if tag else ""
