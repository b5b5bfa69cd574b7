"""Deliver a bundle to a folder of releases, go back to an earlier release, or list the releases.

    python scripts/deploy/release.py deliver results/runs/football/bundle /srv/football --keep 3
    python scripts/deploy/release.py back /srv/football --reason "wrong tense in every answer" [--to NAME]
    python scripts/deploy/release.py list /srv/football

`releases/{time}-{hash}/` is a copy of a bundle with a `release.json`, `current` is a link to the one that is served,
and `history.jsonl` has a line for each change of it, and for each candidate that was rejected beside it. No package is
needed; outside .venv start it in a checkout with `PYTHONPATH=$PWD python3.11 -m scripts.deploy.release`.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scripts.common.cli import log, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import (
    PARTIAL,
    atomic_folder,
    read_json,
    read_jsonl,
    sha256_of,
    sync,
    take_lock,
    write_json,
    write_jsonl,
)
from scripts.common.terminal import warn
from scripts.deploy.provenance import FILE as RECORD
from scripts.deploy.sums import RELEASE, SUMS, read_sums

RELEASES, CURRENT, HISTORY = "releases", "current", "history.jsonl"
NEXT = f".{HISTORY}.next"  # the history with a line for a move of `current` that is not finished
# A delivery holds the first lock while it copies, which may take minutes; each change of `current` holds the second.
DELIVERY_LOCK, LINK_LOCK = ".delivery.lock", ".current.lock"
PATIENCE = 3600  # seconds to wait for another delivery
TIME, HASH = "%Y%m%dT%H%M%SZ", 12  # of a release's name: the form of the time, the digits of the hash
NAME = re.compile(rf"\d{{8}}T\d{{6}}Z-[0-9a-f]{{{HASH}}}")


def now() -> datetime:
    """Return the time in UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def new_name(names: list[str], sha256: str) -> str:
    """Return a name for a release that sorts after all others, even if the clock was set back."""
    times = [datetime.strptime(name.partition("-")[0], TIME).replace(tzinfo=UTC) for name in names]
    at = max([now(), *(time + timedelta(seconds=1) for time in times)])
    return f"{at:{TIME}}-{sha256[:HASH]}"


class Releases:
    """The releases in a folder, and the link `current`. A method that changes `current` needs the lock `locked`."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def current(self) -> str | None:
        """The name of the release that `current` points to; None before the first delivery."""
        link = self.folder / CURRENT
        if link.exists() and not link.is_symlink():
            raise UserError("is not a link to a release", link, remedy="move it away, or name another folder")
        return Path(os.readlink(link)).name if link.is_symlink() else None

    def history(self) -> list[dict]:
        """Return the lines of the history: `at`, `what`, `from` and `to` (names of releases) and `why`."""
        path = self.folder / HISTORY
        return list(read_jsonl(path)) if path.is_file() else []

    def names(self) -> list[str]:
        """Return the names of all releases, the oldest first; what else lies there is not ours."""
        return sorted(path.name for path in (self.folder / RELEASES).glob("*") if NAME.fullmatch(path.name))

    def facts(self, name: str) -> dict:
        """Return the contents of release.json. Raises UserError, which lists the releases, for an unknown name."""
        if name not in self.names():
            remedy = f"there are: {', '.join(self.names())}"
            raise UserError(f"has no release '{name}'", self.folder, remedy=remedy)
        return read_json(self.folder / RELEASES / name / RELEASE)

    def before(self, name: str | None) -> str | None:
        """Return the release that was current before this one was delivered, if it is still there."""
        moves = [
            line["from"] for line in self.history() if line["to"] == name and line["what"] in ("deliver", "switch")
        ]
        return moves[-1] if moves and moves[-1] in self.names() else None

    def replaced(self, sha256: str) -> dict | None:
        """Return the newest line of the history in which another release took the place of a bundle, by its hash."""
        lines = [line for line in self.history() if line["from"] and line["from"].endswith(sha256[:HASH])]
        return lines[-1] if lines else None

    @contextmanager
    def locked(self, name: str = LINK_LOCK) -> Iterator[None]:
        """Hold a lock during the block; with that of `current`, finish first what a killed process began."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / name, "a", encoding="utf-8") as file:
            try:
                take_lock(file, PATIENCE)
            except BlockingIOError:
                raise UserError("another delivery still holds the lock", file.name, remedy="try later") from None
            if name == LINK_LOCK:
                self.settle()
            yield

    def settle(self) -> None:
        """Finish what a killed process began: its move counts if `current` has moved; its temporary files go."""
        if (self.folder / NEXT).exists():
            if list(read_jsonl(self.folder / NEXT))[-1]["to"] == self.current:
                os.replace(self.folder / NEXT, self.folder / HISTORY)
            (self.folder / NEXT).unlink(missing_ok=True)
        for left in self.folder.glob(f".*{PARTIAL}"):
            left.unlink()

    def note(self, what: str, from_: str | None, to: str | None, why: str, path: str = HISTORY) -> None:
        """Add a line to the history. The file is replaced as a whole, so that no line is ever cut."""
        line = {"at": now().isoformat(), "what": what, "from": from_, "to": to, "why": why}
        write_jsonl(self.folder / path, [*self.history(), line], part=True)

    def move(self, name: str, what: str, why: str) -> None:
        """Make a release current.

        The new history is on disk before `current` changes, so a full disk or a kill loses neither of them.
        """
        before = self.current
        self.note(what, before, name, why, path=NEXT)
        beside = self.folder / f".{CURRENT}.{os.getpid()}{PARTIAL}"
        beside.symlink_to(Path(RELEASES, name))
        os.replace(beside, self.folder / CURRENT)
        sync(self.folder)
        os.replace(self.folder / NEXT, self.folder / HISTORY)
        log.info("%s: %s is current%s: %s", self.folder, name, f", was {before}" if before else "", why)

    def back(self, why: str, to: str | None = None, what: str = "back") -> None:
        """Make an earlier release current, by default the one before."""
        target = to or self.before(self.current)
        if target is None:
            remedy = f"name one: release.py back {self.folder} --to NAME --reason TEXT"
            raise UserError("has no release before the current one", self.folder, remedy=remedy)
        self.facts(target)
        if target == self.current:
            raise UserError(f"'{target}' is current already", self.folder)
        self.move(target, what, why)

    def prune(self, keep: int) -> list[Path]:
        """Rename the oldest releases beyond `keep`, for deletion.

        Never the current one, the one before, or one that lies beside the current one and was not rejected.
        """
        names, current = self.names(), self.current
        kept = {*names[-max(keep, 1) :], current, self.before(current)}
        kept |= {name for name in names if self.facts(name)["beside"] == current and not self.replaced(name[-HASH:])}
        old = [self.folder / RELEASES / name for name in names if name not in kept]
        return [path.rename(path.with_name(f".{path.name}.old{PARTIAL}")) for path in old]


def copy_bundle(bundle: Path, release: Path, sums: dict[str, str], facts: dict) -> None:
    """Copy the files of SHA256SUMS, compare the copies with it, and write release.json."""
    with atomic_folder(release) as folder:
        for name, sha256 in {**sums, SUMS: facts["bundle_sha256"]}.items():
            if not (bundle / name).is_file():
                raise UserError("is missing", bundle / name, remedy="run snakemake to build the bundle again")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(bundle / name, folder / name)
            if sha256_of(folder / name) != sha256:
                remedy = "run the same command again; if it fails again, build the bundle again, or check the disk"
                raise UserError(f"its copy differs from {SUMS}", bundle / name, remedy=remedy)
        write_json(folder / RELEASE, facts)


def deliver(bundle: Path, releases: Releases, keep: int, force: str | None, beside: bool) -> dict:
    """Copy a bundle to the releases, and make it current unless `beside`; return the facts of this delivery.

    Their `release` is None where nothing was delivered: the sweep chose another run, or the bundle was replaced.
    """
    sums, record = read_sums(bundle / SUMS), read_json(bundle / RECORD)
    verdict, run, folder = record.get("verdict"), record["run"], releases.folder
    if verdict is None:
        remedy = "run snakemake to build it again"
        raise UserError("not delivered: an earlier version built it, without a verdict", bundle, remedy=remedy)
    if verdict["chosen"] and verdict["chosen"]["run"] != run:
        why = f"not delivered: the sweep chose {verdict['chosen']['run']}"
        log.info("%s: %s", bundle, why)
        return {"run": run, "release": None, "why": why}
    forced = force if verdict["verdict"] != "promote" else None
    if verdict["verdict"] != "promote" and not forced:
        told = f"not delivered: its verdict is {verdict['verdict']}, not promote: {verdict['advice'].rstrip('.')}"
        remedy = 'deliver it anyway with a written reason: deploy.target.force, or --force "REASON"'
        raise UserError(told, bundle, remedy=remedy)
    why = f"verdict {verdict['verdict']}: {verdict['reason']}"
    why = f"forced: {forced} ({why})" if forced else why
    sha256 = sha256_of(bundle / SUMS)
    facts = {"run": run, "at": now().isoformat(), "bundle_sha256": sha256, "why": why, "forced": forced}
    with releases.locked(DELIVERY_LOCK):
        for left in (folder / RELEASES).glob(f".*{PARTIAL}"):  # of killed deliveries
            shutil.rmtree(left)
        with releases.locked():
            names, current = releases.names(), releases.current
            name = next((name for name in names if name.endswith(sha256[:HASH])), None)
            line = None if name and name == current else releases.replaced(sha256)
        if line and (name or not beside):  # --beside brings back a copy that was pruned
            why = f"not delivered again: replaced on {line['at']} ({line['what']}: {line['why']})"
            again = "" if name else f"release.py deliver {bundle} {folder} --beside, then "
            to = name or "NAME"
            warn(f"{bundle}: {why}; to make it current again: {again}release.py back {folder} --to {to} --reason TEXT")
            return {"run": run, "release": None, "why": why}
        facts["beside"] = current if beside and name != current else None
        if name is None:
            name = new_name(names, sha256)
            facts["release"] = name
            copy_bundle(bundle, folder / RELEASES / name, sums, facts)
        else:
            facts |= {"release": name, "at": releases.facts(name)["at"]}
            write_json(folder / RELEASES / name / RELEASE, facts, part=True)
            log.info("%s: this bundle has a copy already", folder)
        with releases.locked():
            if name == releases.current:
                log.info("%s: this bundle is current already, as %s: nothing to do", folder, name)
            elif not beside:
                releases.move(name, "deliver", why)
            old = releases.prune(keep)
        for path in old:
            shutil.rmtree(path)
    return facts


def step(arguments) -> None:
    """Run a command on a folder of releases."""
    releases = Releases(arguments.folder)
    try:
        if arguments.command == "deliver":
            facts = deliver(arguments.bundle, releases, arguments.keep, arguments.force, arguments.beside)
            if arguments.delivered:
                write_json(arguments.delivered, facts | {"folder": str(arguments.folder)})
        elif arguments.command == "back":
            with releases.locked():
                releases.back(arguments.reason, arguments.to)
        else:
            current = releases.current
            before = releases.before(current)
            for name in releases.names():
                facts = releases.facts(name)
                mark = {current: "current", before: "before"}.get(name, "")
                print(f"{name}  {mark:8}{facts['run']}  {facts['why']}")
    except PermissionError as error:
        remedy = "name another folder, or get the right to read and write there"
        raise UserError(error.strerror, error.filename, remedy=remedy) from None


def parser():
    """Return the program's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("deliver", help="copy a bundle and make it current")
    add.add_argument("bundle", type=Path, help="folder of the bundle")
    back = commands.add_parser("back", help="make an earlier release current")
    for command in (add, back, commands.add_parser("list", help="list the releases")):
        command.add_argument("folder", type=Path, help="folder of the releases")
    add.add_argument("--keep", type=int, default=3, help="releases to keep, at least the current and the one before")
    add.add_argument("--force", help="reason to deliver a bundle without the verdict promote; it is recorded")
    add.add_argument(
        "--beside", action="store_true", help="leave `current` as it is; watch.py may switch to the release"
    )
    add.add_argument("--delivered", type=Path, help="facts of the delivery to write (JSON)")
    back.add_argument("--reason", required=True, help="why; it is recorded")
    back.add_argument("--to", help="name of the release; default: the one before the current one")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
