"""Checkpoints: stored outside the declared outputs, named by a fingerprint of the run, and used only if complete.

A checkpoint contains data only: safetensors, JSON, and PyTorch files that are read with `weights_only`. It is written
to a temporary folder, its manifest last, and then renamed. The manifest has the run's fingerprint and the hash of every
file. A folder with additional or missing files is not read.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.common.checksums import checksum_path
from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.files import MANIFEST, canonical_sha256, check_manifest, write_manifest
from scripts.common.terminal import warn
from scripts.train.memory import out_of_memory

SAVING = ".saving"
PENDING = "-before-evaluation"  # name suffix for a step that is not evaluated yet
NAME = re.compile(rf"checkpoint-(\d+)({PENDING})?")
DATA = (".safetensors", ".json", ".jinja", ".model", ".txt", ".md")
TORCH_FILE = re.compile(r"(optimizer|scheduler|scaler)\.pt|rng_state(_\d+)?\.pth")


def fingerprint(**facts: Any) -> str:
    """Return 16 hex digits of the SHA-256 over everything that determines a run."""
    return canonical_sha256(facts)[:16]


def step_of(path: Path) -> int:
    """Return the optimizer step of a checkpoint's folder name."""
    match = NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def checkpoint_name(step: int, pending: bool = False) -> str:
    """Return the name of a step's checkpoint; `pending` means not evaluated yet."""
    return f"checkpoint-{step}{PENDING if pending else ''}"


def checkpoints_in(folder: Path) -> list[Path]:
    """Return a run's checkpoints, newest first; of two of the same step, the evaluated one."""
    found = [path for path in folder.glob("checkpoint-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (-step_of(path), path.name.endswith(PENDING)))


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest valid checkpoint whose best checkpoint, if it names one, is valid too; None if there is none.

    The main process logs it. Incomplete checkpoints (without a manifest) are removed. Altered ones and those of other
    runs are renamed with a warning, and the previous one is used. Raises UserError for a checkpoint that contains code.
    """
    from accelerate import PartialState

    shutil.rmtree(folder / SAVING, ignore_errors=True)
    for path in checkpoints_in(folder):
        manifest = trusted(path)
        if manifest is None:
            continue
        best = manifest.get("best_step")
        if best is None or best == manifest["step"] or trusted(folder / checkpoint_name(best)):
            refuse_code(path)
            if PartialState().is_main_process:
                log.info("continues from step %d (%s)", step_of(path), path)
            return path
        warn(f"{path} is skipped: its best checkpoint (step {best}) is missing or incomplete")
    return None


def trusted(path: Path) -> dict | None:
    """Return a checkpoint's manifest if it is complete, unaltered and of this run; else remove or rename it."""
    if not path.exists():
        return None
    if not path.is_symlink() and not (path / MANIFEST).exists():
        log.warning("%s is incomplete and is removed", path)
        shutil.rmtree(path)
        return None
    try:
        return check_checkpoint(path)
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        place = path.with_name(f"refused-{path.name}")
        shutil.rmtree(place, ignore_errors=True)
        path.rename(place)
        warn(f"a checkpoint is refused: {error}; it is renamed to {place}, and the previous one is used")
        return None


def check_checkpoint(path: Path) -> dict:
    """Return a checkpoint's manifest after comparing fingerprint, names and hashes."""
    found = sorted(path.rglob("*"))
    for file in (path, *found):
        if file.is_symlink():
            raise UserError("is a link", file)
    manifest = check_manifest(path / MANIFEST, hashes=True)
    listed = {path / name for name in manifest["files"]} | {path / MANIFEST, checksum_path(path / MANIFEST)}
    for file in found:
        if not file.is_dir() and file not in listed:
            raise UserError("is not listed in the checkpoint's manifest", file)
    if (manifest["fingerprint"], manifest["step"]) != (path.parent.name, step_of(path)):
        raise UserError(f"belongs to step {manifest['step']} of the run {manifest['fingerprint']}", path)
    return manifest


def refuse_code(path: Path) -> None:
    """Raise UserError for the first file of a checkpoint that is more than plain data.

    Anyone who can write a checkpoint can also write its manifest.
    """
    import torch
    from transformers.trainer_pt_utils import safe_globals

    remedy = "find out where it comes from; delete the folder of checkpoints to train from the start"
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        if TORCH_FILE.fullmatch(file.name):
            try:
                with safe_globals():
                    torch.load(str(file), map_location="meta", weights_only=True, mmap=True)
            except Exception as error:
                why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise UserError(f"is refused, because it is not plain data: {why}", file, remedy=remedy) from None
        elif file.suffix not in DATA and file != checksum_path(path / MANIFEST):
            raise UserError("is refused: checkpoints don't contain files of this type", file, remedy=remedy)


@contextmanager
def unwritable(folder: Path, step: int) -> Iterator[None]:
    """Turn an error in writing a checkpoint, such as a full disk, into a UserError; remove what was written.

    Any other error is raised as it is.
    """
    from safetensors import SafetensorError

    try:
        yield
    except Exception as error:
        shutil.rmtree(folder / SAVING, ignore_errors=True)
        # torch raises RuntimeError for a failed write, safetensors SafetensorError, and tokenizers a plain Exception.
        failed_write = isinstance(error, (OSError, RuntimeError, SafetensorError)) or type(error) is Exception
        if out_of_memory(error) or not failed_write:
            raise
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"the checkpoint of step {step} can't be written: {why[0]}",
            folder,
            remedy="free disk space and run again: the previous checkpoint is kept",
        ) from error


def finish_checkpoint(folder: Path, name: str, **facts: Any) -> None:
    """Write the manifest of a checkpoint in `.saving`, and move the checkpoint to its path."""
    write_manifest(folder / SAVING / name, fingerprint=folder.name, **facts)
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / SAVING / name).rename(folder / name)
    shutil.rmtree(folder / SAVING)


def remove_old(folder: Path, keep: int, best_step: int | None) -> None:
    """Keep the newest checkpoints and the best one, and remove the others."""
    found = checkpoints_in(folder)
    steps = sorted({step_of(path) for path in found})[-keep:]
    done = {step_of(path) for path in found if not path.name.endswith(PENDING)}
    for path in found:
        superseded = path.name.endswith(PENDING) and step_of(path) in done
        if superseded or step_of(path) not in (*steps, best_step):
            shutil.rmtree(path)
