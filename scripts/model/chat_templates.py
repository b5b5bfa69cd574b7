"""The chat templates that come with snaketune, for base models that have none."""

from pathlib import Path

from scripts.common.errors import UserError

FOLDER = Path(__file__).parent / "templates"
BUILT_IN = {"mistral": "mistral", "llama": "llama3"}  # architecture to template


def template_text(name: str) -> str:
    """Return the text of a built-in template (`mistral`, `llama3`, `chatml`) or of a Jinja file."""
    built_in = FOLDER / f"{name}.jinja"
    path = built_in if built_in.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.jinja")))
        raise UserError(f"chat template '{name}' is neither built in ({known}) nor a file")
    return path.read_text(encoding="utf-8")
