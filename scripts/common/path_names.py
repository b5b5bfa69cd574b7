"""Names of files that Snakemake, a command line and a terminal all take for names, and nothing else."""

from scripts.common.plain_text import visible


def name_fault(path: str) -> str | None:
    """Say what keeps a path from being used, and what to do; None for all the usual ones.

    Spaces, quotes, `$` and the like are fine, for every path is quoted. Braces are not: Snakemake fills them in.
    """
    if "{" in path or "}" in path:
        return "has braces, which Snakemake would fill in; rename it"
    if visible(path) != path:
        return "has control characters; rename it"
    if path.startswith("-"):
        return f"begins like an option; write './{path}'"
    return None
