"""Take a model from a local folder: weights are linked, small files copied.

python scripts/model/link_local_model.py my/model --name mine --folder results/models/mine --settings '{...}'
"""

import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

from scripts.common.cli import run_step, step_parser
from scripts.common.errors import UserError
from scripts.model.model_folder import NOT_NEEDED, SMALL_FILES, WEIGHTS, check_model_folder, finish_model_folder


def link_local_model(source: Path, folder: Path, name: str, settings: dict) -> None:
    """Make `folder` a model folder whose weights are symbolic links into `source`, and write its manifest."""
    if not source.is_dir():
        raise UserError("is no folder", source, remedy="name the folder of a Hugging Face model")
    check_model_folder(source, settings)
    folder.mkdir(parents=True, exist_ok=True)
    copied = SMALL_FILES + (["*.py"] if settings["trust_remote_code"] else [])
    for path in sorted(source.iterdir()):
        target = folder / path.name
        if not path.is_file() or any(fnmatch(path.name, pattern) for pattern in NOT_NEEDED):
            continue
        target.unlink(missing_ok=True)
        if fnmatch(path.name, WEIGHTS):
            target.symlink_to(path.resolve())
        elif path.name != "manifest.json" and any(fnmatch(path.name, pattern) for pattern in copied):
            shutil.copyfile(path, target)
    finish_model_folder(folder, settings, name=name, source="path", id=None, revision=None)


def step(arguments) -> None:
    """Run the step."""
    link_local_model(arguments.source, arguments.folder, arguments.name, arguments.settings)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("source", type=Path, help="folder with a Hugging Face model")
    result.add_argument("--folder", type=Path, required=True, help="model folder to write")
    result.add_argument("--name", required=True, help="the model's key in the configuration")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
