"""One training of a run at a time, and none of a run that is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.files import read_json, sha256_of
from scripts.common.flock import take_lock

FINISHED = ".finished.json"
PATIENCE = 90  # seconds: longer than a training that outlived its workflow takes to stop


@contextmanager
def only_training_in(folder: Path) -> Iterator[None]:
    """Hold the run's lock, which ends with this process; raises UserError when another process holds it.

    A training that outlived a killed workflow would otherwise write the same checkpoints as the one that takes over. It
    stops by itself, so this one waits for a while. Where the file system has no such locks, nothing is held.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".training.lock", "w", encoding="utf-8") as file:
        try:
            take_lock(file, PATIENCE)
        except BlockingIOError:
            raise UserError(
                "another process is training this run", folder, remedy="wait for it, or end that train_model.py"
            ) from None
        except OSError as error:
            log.warning(
                "%s has no locks (%s): another process that trains this run would not be noticed", folder, error
            )
        yield


def same_finished_run(record: Path, circumstances: str, output: Path) -> dict | None:
    """Return what a finished run of the same circumstances left, if its weights are there unaltered.

    Snakemake runs a step again when its input was made again, even with the same bytes; training is too dear for that.
    """
    if not record.is_file():
        return None
    finished = read_json(record)
    files = finished["manifest"].pop("files")
    if finished["circumstances"] != circumstances:
        return None
    whole = all((output / name).is_file() and sha256_of(output / name) == f["sha256"] for name, f in files.items())
    return finished if whole else None
