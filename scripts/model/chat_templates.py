"""Built-in chat templates for base models without one."""

from pathlib import Path

FOLDER = Path(__file__).parent / "templates"
BUILT_IN = {"mistral": "mistral", "llama": "llama3", "mistral3": "mistral3", "phi3": "phi3"}  # architecture to template
BUILT_IN_TEMPLATES = {path.stem: path for path in FOLDER.glob("*.jinja")}
