"""Print the results folder of configuration files: `python -m scripts.workflow.results_folder FILE ...`.

The Makefile uses it to find the leaderboard for a report.
"""

import argparse
import sys
from pathlib import Path

import yaml

from scripts.config.expand import merged, results_folder
from scripts.config.files import first_fault


def folder_of_files(files: list[Path]) -> str:
    """Return the results folder of configuration files, later ones with priority; unreadable files are skipped."""
    config: dict = {}
    for file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        config = merged(config, content) if isinstance(content, dict) else config
    override = config.get("override")
    return results_folder(config, override if isinstance(override, dict) else {})


def main(argv=None) -> int:
    """Print the folder, or one line on a missing or invalid file; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="configuration files, in the order of --configfile")
    files = parser.parse_args(argv).files
    if fault := first_fault(files):
        print(fault, file=sys.stderr)
        return 1
    print(folder_of_files(files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
