"""Identify the code of a step, so that a change of its code runs the step again.

A step runs again when the syntax tree of its script, or of a module of ours that it imports, changes. Docstrings,
comments, log lines and the texts of progress bars and options are ignored. A slow step defines RESULT_VERSION instead,
and runs again only when this number changes. result_versions.json has the digest of the code for each number. When that
code changes, a test fails until its author states the effect on the results:

    python -m scripts.workflow.code_digest                  # RESULT_VERSION was raised: the results change
    python -m scripts.workflow.code_digest --same-numbers   # the results stay the same, to the last digit
"""

import argparse
import ast
import contextlib
import functools
import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = Path(__file__).with_name("result_versions.json")
VERSION = "RESULT_VERSION"
# Modules that report, lock or stop. They do not affect results, and import no module that computes them.
WITHOUT_RESULT = (
    "common/errors.py", "common/gpu_locks.py", "common/parent_watchdog.py", "common/terminal.py", "common/tracking.py",
    "train/stop.py",
)  # fmt: skip
REPORTS = {"log", "logger", "logging", "terminal"}  # their methods only produce output for people
PROGRESS = {"Progress", "progress", "advance"}


def files_of_script(script: Path | str) -> list[Path]:
    """Return the script, then every module under `scripts/` that it imports, directly or indirectly."""
    script = Path(script)
    root = root_of(script)
    found: dict[Path, None] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop(0)
        if path not in found:
            found[path] = None
            waiting += [root / name for name in known(path, root)["imports"]] if path.suffix == ".py" else ()
    return [script, *sorted(path for path in found if path != script)]


def root_of(script: Path) -> Path:
    """Return the parent of the `scripts` folder of a script."""
    return next(parent.parent for parent in script.parents if parent.name == "scripts")


def step_code(script: Path | str) -> str:
    """Return a step's RESULT_VERSION, or a digest of its code; a change runs the step again."""
    script = Path(script)
    version = known(script, root_of(script))["version"]
    return digest_of(script) if version is None else f"version {version}"


def kept_step_code(script: Path | str, store: Path) -> str:
    """Return `step_code`, from the file `store` unless a file under `scripts/` is another than when it was written.

    To parse all scripts takes half a second, a quarter of Snakemake's start.
    """
    script = Path(script)
    root = root_of(script)
    state, name = state_of(root), script.relative_to(root).as_posix()
    kept = codes_in(store)
    codes = kept.setdefault(state, {})
    if name not in codes:
        codes[name] = step_code(script)
        partial = store.with_suffix(f".{os.getpid()}.partial")
        with contextlib.suppress(OSError):  # a folder that can't be written is no reason to stop
            store.parent.mkdir(exist_ok=True)
            partial.write_text(json.dumps({state: codes}), encoding="utf-8")
            os.replace(partial, store)
    return codes[name]


@functools.cache
def codes_in(store: Path) -> dict[str, dict[str, str]]:
    """Return the codes of steps in a file, by state and script; empty if there is no such file or it is damaged."""
    try:
        return json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


@functools.cache
def state_of(root: Path) -> str:
    """Return a digest of all files under `scripts/` that can be code, and of Python, which decides a tree's form."""
    files = sorted(path for path in (root / "scripts").rglob("*") if path.suffix in (".py", ".html"))
    parts = [f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join([sys.version, *parts]).encode()).hexdigest()


def digest_of(script: Path) -> str:
    """Return a digest of all code in a script and its modules that can affect a result."""
    root = root_of(script)
    parts = []
    for path in files_of_script(script):
        name = path.relative_to(root).as_posix()
        if name.removeprefix("scripts/") not in WITHOUT_RESULT:
            parts.append([name, known(path, root)["digest"]])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@functools.cache
def known(path: Path, root: Path) -> dict:
    """Return a file's `digest`, the files that it `imports`, and its RESULT_VERSION (`version`)."""
    source = path.read_bytes()
    if path.suffix != ".py":
        return {"digest": hashlib.sha256(source).hexdigest(), "imports": [], "version": None}
    tree = ast.parse(source)
    imports = [file.relative_to(root).as_posix() for file in imported_files(path, tree, root)]
    version, dump = version_in(tree), ast.dump(Results().visit(tree))
    return {"digest": hashlib.sha256(dump.encode()).hexdigest(), "imports": imports, "version": version}


def version_in(tree: ast.Module) -> int | None:
    """Return the RESULT_VERSION that a module defines, and remove the definition from its tree."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [VERSION]:
            tree.body.remove(node)
            return ast.literal_eval(node.value)
    return None


class Results(ast.NodeTransformer):
    """Removes text for people from a tree: docstrings, log lines, the texts of progress bars and of options."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Remove docstrings and calls that only report."""
        if isinstance(node.value, ast.Constant) or is_report(node.value):
            return None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Remove the texts of a progress bar, and the help of an option."""
        self.generic_visit(node)
        name = name_of(node.func)
        if name in PROGRESS:
            node.args = [part for part in node.args if not is_text(part)]
        read = {"note"} if name in PROGRESS else {"help"} if name == "add_argument" else set()
        node.keywords = [part for part in node.keywords if part.arg not in read]
        return node


def name_of(function: ast.AST) -> str:
    """Return the last part of a function's name: `advance` for `bar.advance`."""
    return getattr(function, "attr", getattr(function, "id", ""))


def is_text(node: ast.AST) -> bool:
    """Return whether an expression is a string literal or an f-string."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def is_report(node: ast.AST) -> bool:
    """Return whether an expression is a call that only logs or shows something."""
    if not isinstance(node, ast.Call):
        return False
    owner = getattr(getattr(node.func, "value", None), "id", None)
    return owner in REPORTS or name_of(node.func) == "warn"


def imported_files(path: Path, tree: ast.Module, root: Path) -> list[Path]:
    """Return the files of the `scripts...` modules that a module imports, and the pages that it renders."""
    files = []
    for node in ast.walk(tree):
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
    return files


def module_files(root: Path, name: str) -> list[Path]:
    """Return the files of a module and of a package's `__init__`; empty for a name that is not a module."""
    base = root.joinpath(*name.split("."))
    return [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]


def current_versions() -> dict[str, dict]:
    """Return version and digest of each step that defines RESULT_VERSION, by its path below `scripts/`."""
    found = {}
    for script in sorted((ROOT / "scripts").glob("*/*.py")):
        if VERSION.encode() in script.read_bytes() and (version := known(script, ROOT)["version"]) is not None:
            found[script.relative_to(ROOT / "scripts").as_posix()] = {"version": version, "digest": digest_of(script)}
    return found


def unconfirmed() -> list[str]:
    """Return the steps whose code changed without a new RESULT_VERSION, or whose new number is not recorded."""
    recorded = json.loads(VERSIONS.read_text(encoding="utf-8"))
    return [step for step, found in current_versions().items() if recorded.get(step) != found]


def main(argv=None) -> int:
    """Record the versions; return 1 if the code of a step changed with neither a new number nor `--same-numbers`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--same-numbers", action="store_true", help="the changed code gives the same results")
    arguments = parser.parse_args(argv)
    recorded, current = json.loads(VERSIONS.read_text(encoding="utf-8")), current_versions()
    silent = [step for step in unconfirmed() if recorded.get(step, {}).get("version") == current[step]["version"]]
    if silent and not arguments.same_numbers:
        print(f"the code of {', '.join(silent)} changed: raise {VERSION}, or give --same-numbers", file=sys.stderr)
        return 1
    partial = VERSIONS.with_suffix(".partial")
    partial.write_text(json.dumps(current, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, VERSIONS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
