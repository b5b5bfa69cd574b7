"""The settings of a step that is run by hand."""

from scripts.common.errors import UserError


def complete(settings: dict, keys: tuple[str, ...]) -> dict:
    """Return the settings after checking that these keys are there, as the workflow gives them."""
    missing = [key for key in keys if key not in settings]
    if missing:
        raise UserError(
            f"--settings lacks {', '.join(missing)}",
            remedy="`snakemake -n -p` prints the whole command, and docs/reference/configuration.md the defaults",
        )
    return settings
