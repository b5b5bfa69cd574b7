"""Print the folder of the results that configuration files name: `python -m scripts.workflow.results_folder FILE ...`.

The Makefile asks it where the leaderboard is, of which a report is to be made.
"""

import argparse
import sys
from pathlib import Path

import yaml

from scripts.config.expand import merged, results_folder
from scripts.config.files import first_fault


def folder_of_files(files: list[Path]) -> str:
    """Return the folder of results of files laid over each other; what can't be read is for others to report."""
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
    """Print the folder, or one line on a file that is missing or broken; return the exit status."""
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
