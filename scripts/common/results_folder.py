"""Print the folder of the results that configuration files name: `python -m scripts.common.results_folder FILE ...`.

The Makefile asks it where the leaderboard is, of which a report is to be made.
"""

import argparse
import sys
from pathlib import Path

import yaml

from scripts.common.config_files import first_fault

DEFAULT = "results"


def results_folder(files: list[Path]) -> str:
    """Return `pathvars.results` of the last of the files that has it; what can't be read is for others to report."""
    folder = DEFAULT
    for file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        folders = content.get("pathvars") if isinstance(content, dict) else None
        if isinstance(folders, dict) and isinstance(folders.get("results"), str):
            folder = folders["results"]
    return folder


def main(argv=None) -> int:
    """Print the folder, or one line on a file that is missing or broken; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="configuration files, in the order of --configfile")
    files = parser.parse_args(argv).files
    if fault := first_fault(files):
        print(fault, file=sys.stderr)
        return 1
    print(results_folder(files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
