"""A stand-in: a small base model that was made on this machine in place of a real one (`models.<name>.embedded`)."""

NOTE = "the base model is a stand-in made on this machine, so only the path was tried"


def is_stand_in(manifest: dict) -> bool:
    """Say whether a base model's manifest is that of a stand-in."""
    return manifest.get("source") == "embedded"


def base_name(key: str, manifest: dict) -> str:
    """Return what reports call a base model: its key in `models`, or `stand-in` with the architecture."""
    if not is_stand_in(manifest):
        return key
    return f"stand-in ({manifest['architecture']})"
