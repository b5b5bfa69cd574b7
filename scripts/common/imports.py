"""Which files a step consists of: its script and the modules of ours that it imports, found without running it."""

import ast
import functools
from pathlib import Path


def files_of_script(script: Path | str) -> list[Path]:
    """Return the script first, then every module under `scripts/` that it imports, directly or through another."""
    script = Path(script)
    root = next(parent.parent for parent in script.parents if parent.name == "scripts")
    found: dict[Path, None] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop(0)
        if path not in found:
            found[path] = None
            waiting += imported_files(path, root) if path.suffix == ".py" else ()
    return [script, *sorted(path for path in found if path != script)]


@functools.cache
def imported_files(path: Path, root: Path) -> tuple[Path, ...]:
    """Return the files of the `scripts...` modules that one file imports, and its pages when it renders any."""
    files = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "scripts":
                files += module_files(root, name)
    if path.name == "html.py" or any(file.name == "html.py" for file in files):
        files += sorted((path.parent / "pages").glob("*.html"))
    return tuple(files)


def module_files(root: Path, name: str) -> list[Path]:
    """Return the file of a module or of a package's `__init__`; none for a name that is no module."""
    base = root.joinpath(*name.split("."))
    return [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]
