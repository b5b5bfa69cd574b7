"""Import a model from a local folder: weights are linked, small files copied.

python scripts/model/link_local_model.py my/model --name mine --folder results/models/mine --settings '{...}'
"""

import shutil
import sys
from pathlib import Path

from scripts.common.checksums import note_input
from scripts.common.errors import UserError
from scripts.common.files import atomic_folder
from scripts.model.model_files import WEIGHTS, is_taken
from scripts.model.model_folder import check_model_folder, finish_model_folder, import_main

TEMPLATE = "chat_template.jinja"


def link_local_model(
    source: Path, folder: Path, name: str, settings: dict, chat_template: Path | None = None, hub: dict | None = None
) -> None:
    """Write a model folder with symbolic links to the weights in `source`, and its manifest.

    `hub` is the section of that name if `source` is in the hub's cache.
    """
    if not source.is_dir():
        raise UserError("is not a folder", source, remedy="name the folder of a Hugging Face model")
    check_model_folder(source, settings)
    with atomic_folder(folder) as beside:
        for path in sorted(source.iterdir()):
            if not is_taken(path.name, settings["trust_remote_code"]):
                continue
            if path.match(WEIGHTS) and not path.exists():
                raise UserError("is a broken link", path, remedy="replace it by the file")
            if not path.is_file():
                continue
            note_input(path)
            if path.match(WEIGHTS):
                (beside / path.name).symlink_to(path.resolve())
            else:
                check_link(path)
                shutil.copyfile(path, beside / path.name)
        facts = {"source": "hub", **hub} if hub else {"source": "path", "id": None, "revision": None}
        try:
            finish_model_folder(beside, settings, chat_template, name=name, **facts)
        except UserError as error:  # name the user's file, not the copy
            given = str(chat_template or source / TEMPLATE)
            text = str(error).replace(str(beside / TEMPLATE), given).replace(str(beside), str(source))
            raise UserError(text) from None


def check_link(path: Path) -> None:
    """Raise UserError for a small file that links outside of the folder: its content would go into results and bundle.

    Links of a hub cache snapshot to the cache's `blobs` are allowed.
    """
    real, folder = path.resolve(), path.parent.resolve()
    blobs = folder.parent.parent / "blobs"
    if not (real.is_relative_to(folder) or (folder.parent.name == "snapshots" and real.parent == blobs)):
        raise UserError("is a link out of the model's folder", path, remedy="replace it by the file")


main = import_main(link_local_model, __doc__.splitlines()[0], source="folder with a Hugging Face model")

if __name__ == "__main__":
    sys.exit(main())
