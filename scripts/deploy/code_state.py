"""What code made a bundle: the workflow's files with their hashes, and its commit where there is one."""

import hashlib
import os
import subprocess
from pathlib import Path

from scripts.common.files import sha256_of

CODE = ("Snakefile", "rules/*.smk", "scripts/**/*.py", "scripts/**/*.html", "scripts/**/*.jinja")


def code_files(project: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the workflow's code, by its path in the workflow's folder."""
    paths = sorted({path for pattern in CODE for path in project.glob(pattern)})
    return {path.relative_to(project).as_posix(): sha256_of(path) for path in paths}


def hash_of_hashes(files: dict[str, str]) -> str:
    """Return one SHA-256 over names and hashes."""
    text = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def git(project: Path, *words: str) -> str | None:
    """Return what a git command prints in the workflow's folder; None where that fails or git is not there."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *words], cwd=project, env=environment, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return None if done.returncode else done.stdout


def commit_of(project: Path) -> dict:
    """Return the commit of the workflow's folder, and whether its code differs from it; both None outside of git.

    A folder whose Snakefile git does not know, such as a copy inside of another project, has no commit of its own.
    """
    commit = git(project, "rev-parse", "HEAD") if git(project, "ls-files", "--error-unmatch", "Snakefile") else None
    if commit is None:
        return {"commit": None, "dirty": None}
    changed = git(project, "status", "--porcelain", "--", "Snakefile", "rules", "scripts", "envs")
    return {"commit": commit.strip(), "dirty": None if changed is None else bool(changed)}


def code_state(project: Path) -> dict:
    """Return the code of a provenance record."""
    files = code_files(project)
    return {"sha256": hash_of_hashes(files), **commit_of(project), "files": files}
