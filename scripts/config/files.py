"""Report configuration files that are missing or not valid YAML, with file and line, before Snakemake reads them.

Snakemake's own message has no file and line, or is a traceback. The profiles call `check_config_files` first. In
unclear cases it reports nothing and leaves the check to Snakemake. This module imports only packages that Snakemake
itself installs.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from scripts.common.plain_text import visible

ENDINGS = (".yaml", ".yml", ".json")
DEFAULT = Path("config/config.yaml")
# With these options it is unknown whether the Snakefile reads its default configuration file, and which file that is.
ELSEWHERE = ("--config", "--directory", "--profile", "--replace-workflow-config")
SHORT = ("-C", "-d")
LARGEST = 100_000  # bytes that PyYAML reads within a second; larger files are not checked here


def check_config_files(words: list[str] | None = None) -> None:
    """Exit with one line for the first configuration file that is missing or not valid YAML.

    `words` are Snakemake's arguments. If they name no file, the Snakefile's default file is checked.
    """
    words = sys.argv[1:] if words is None else words
    given = named_files(words)
    own = not any(word.partition("=")[0] in ELSEWHERE or word.startswith(SHORT) for word in words)
    if not given and own and "SNAKEMAKE_PROFILE" not in os.environ and DEFAULT.is_file():
        given = [DEFAULT]
    if fault := first_fault(given):
        raise SystemExit(fault)


def named_files(words: list[str]) -> list[Path]:
    """Return the files of the last `--configfile`; Snakemake ignores the earlier ones."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--configfile", "--configfiles", dest="files", type=Path, nargs="+", default=[])
    with suppress(argparse.ArgumentError):
        return parser.parse_known_args(words)[0].files
    return []


def first_fault(files: Iterable[Path]) -> str | None:
    """Return the error of the first file that has one."""
    return next((fault for fault in map(fault_of, files) if fault), None)


def fault_of(file: Path) -> str | None:
    """Return one line on why a configuration file can't be read; None if Snakemake can read it."""
    name = visible(str(file))
    if file.is_dir():
        return f"{name}: is a folder, not a configuration file"
    if not file.exists():
        hint = "" if file.suffix in ENDINGS else "; put targets before --configfile"
        return f"{name}: does not exist{hint}"
    if not file.is_file() or file.stat().st_size > LARGEST:  # a pipe can be read once only
        return None
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"{name}:{line}: is not UTF-8; save it in that encoding"
    except OSError as error:
        return f"{name}: {error.strerror}"
    return yaml_fault(text, name)


def yaml_fault(text: str, name: str) -> str | None:
    """Return one line on where a text is neither JSON nor YAML with keys at its top level; None if it is."""
    import yaml

    with suppress(ValueError, RecursionError):
        if isinstance(json.loads(text), dict):
            return None
    try:
        value = yaml.load(text, Loader=yaml.FullLoader)  # noqa: S506 (the loader that Snakemake uses)
    except yaml.YAMLError as error:
        mark, start = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        nested = start and mark and start.line < mark.line
        what += f", in the part that begins in line {start.line + 1}" if nested else ""
        what += "; indent with spaces, not with tabs" if "'\\t'" in what else ""
        return visible(f"{name}{f':{mark.line + 1}' if mark else ''}: is not valid YAML: {what}")
    except Exception:
        return None
    return None if isinstance(value, dict) else f"{name}: has no keys at its top level"
