"""Deliver a bundle to a folder of releases or to the hub, go back to an earlier release, or list the releases.

    python scripts/deploy/release.py deliver results/runs/football/bundle /srv/football --keep 3
    python scripts/deploy/release.py back /srv/football --reason "wrong tense in every answer" [--to NAME]
    python scripts/deploy/release.py list ssh://deploy@server/srv/football
    python scripts/deploy/release.py deliver results/runs/football/bundle hf://owner/name

The folder is on this machine or on an SSH host (ssh_folder.py), the hub is that of Hugging Face (hub.py).
`releases/{time}-{hash}/` is a copy of a bundle with a `release.json`, `current` is a link to the one that is served,
and `history.jsonl` has a line for each change of it, and for each candidate that was rejected beside it. Only the
hub needs a package; outside .venv start it in a checkout with `PYTHONPATH=$PWD python3.11 -m scripts.deploy.release`.
"""

import re
import shlex
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scripts.common.cli import log, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import PARTIAL, read_json, sha256_of, write_json
from scripts.common.terminal import warn
from scripts.deploy.hub import deliver_to_hub
from scripts.deploy.local_folder import LocalFolder
from scripts.deploy.provenance import FILE as RECORD
from scripts.deploy.ssh_folder import SshFolder
from scripts.deploy.sums import RELEASE, SUMS, read_sums
from scripts.deploy.target import HUB, REASON, SCHEME, SSH, target_fault

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
    """The releases in a folder, and the link `current`. A method that changes `current` needs the lock `locked`.

    `place` has the file operations; by default those of this machine.
    """

    def __init__(self, folder: Path | str, place: LocalFolder | SshFolder | None = None):
        self.folder = folder
        self.place = place or LocalFolder(folder)

    @property
    def current(self) -> str | None:
        """The name of the release that `current` points to; None before the first delivery."""
        return self.place.linked(CURRENT)

    def history(self) -> list[dict]:
        """Return the lines of the history: `at`, `what`, `from` and `to` (names of releases) and `why`."""
        return self.place.read_lines(HISTORY)

    def names(self) -> list[str]:
        """Return the names of all releases, the oldest first; what else lies there is not ours."""
        return sorted(name for name in self.place.entries(RELEASES) if NAME.fullmatch(name))

    def facts(self, name: str) -> dict:
        """Return the contents of release.json. Raises UserError, which lists the releases, for an unknown name."""
        if name not in self.names():
            remedy = f"there are: {', '.join(self.names())}"
            raise UserError(f"has no release '{name}'", self.folder, remedy=remedy)
        return self.place.read_json(f"{RELEASES}/{name}/{RELEASE}")

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
        with self.place.held(name, PATIENCE):
            if name == LINK_LOCK:
                self.settle()
            yield

    def leftovers(self, folder: str = "") -> list[str]:
        """Return the paths of temporary files in a folder."""
        found = [name for name in self.place.entries(folder) if name.startswith(".") and name.endswith(PARTIAL)]
        return [f"{folder}/{name}" if folder else name for name in found]

    def settle(self) -> None:
        """Finish what a killed process began: its move counts if `current` has moved; its temporary files go."""
        if began := self.place.read_lines(NEXT):
            if began[-1]["to"] == self.current:
                self.place.rename(NEXT, HISTORY)
            else:
                self.place.remove(NEXT)
        self.place.remove(*self.leftovers())

    def note(self, what: str, from_: str | None, to: str | None, why: str, path: str = HISTORY) -> None:
        """Add a line to the history. The file is replaced as a whole, so that no line is ever cut."""
        line = {"at": now().isoformat(), "what": what, "from": from_, "to": to, "why": why}
        self.place.write_lines(path, [*self.history(), line])

    def move(self, name: str, what: str, why: str) -> None:
        """Make a release current.

        The new history is on disk before `current` changes, so a full disk or a kill loses neither of them.
        """
        before = self.current
        self.note(what, before, name, why, path=NEXT)
        self.place.point(CURRENT, f"{RELEASES}/{name}")
        self.place.rename(NEXT, HISTORY)
        log.info("%s: %s is current%s: %s", self.folder, name, f", was {before}" if before else "", why)

    def back(self, why: str, to: str | None = None, what: str = "back") -> None:
        """Make an earlier release current, by default the one before."""
        target = to or self.before(self.current)
        if target is None:
            remedy = f"name one: release.py back {shlex.quote(str(self.folder))} --to NAME --reason TEXT"
            raise UserError("has no release before the current one", self.folder, remedy=remedy)
        self.facts(target)
        if target == self.current:
            raise UserError(f"'{target}' is current already", self.folder)
        self.move(target, what, why)

    def prune(self, keep: int) -> list[str]:
        """Rename the oldest releases beyond `keep`, for deletion.

        Never the current one, the one before, or one that lies beside the current one and was not rejected.
        """
        names, current = self.names(), self.current
        kept = {*names[-max(keep, 1) :], current, self.before(current)}
        kept |= {name for name in names if self.facts(name)["beside"] == current and not self.replaced(name[-HASH:])}
        old = {f"{RELEASES}/{name}": f"{RELEASES}/.{name}.old{PARTIAL}" for name in names if name not in kept}
        for name, aside in old.items():
            self.place.rename(name, aside)
        return list(old.values())


def asked_of(bundle: Path, force: str | None) -> dict:
    """Return the facts of a delivery that the bundle's verdict or a written reason allows.

    Their `release` is None where nothing is delivered, because the sweep chose another run. Raises UserError without
    the verdict `promote` and without a reason.
    """
    record = read_json(bundle / RECORD)
    verdict, run = record.get("verdict"), record["run"]
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
    return {"run": run, "at": now().isoformat(), "bundle_sha256": sha256, "why": why, "forced": forced}


def require_files(bundle: Path, names: Iterable[str]) -> None:
    """Raise UserError if a file of a bundle is missing."""
    for name in names:
        if not (bundle / name).is_file():
            raise UserError("is missing", bundle / name, remedy="run snakemake to build the bundle again")


def deliver(
    bundle: Path, releases: Releases, files: dict[str, str], facts: dict, keep: int = 3, beside: bool = False
) -> dict:
    """Copy a bundle to the releases, and make it current unless `beside`; return the facts of this delivery.

    Their `release` is None where nothing was delivered, because the bundle was replaced.
    """
    sha256, place, folder = facts["bundle_sha256"], releases.place, releases.folder
    with releases.locked(DELIVERY_LOCK):
        # Those of killed deliveries, except what the copy of this bundle continues from.
        continued = f"{RELEASES}/.{sha256[:HASH]}{PARTIAL}"
        place.remove(*(left for left in releases.leftovers(RELEASES) if left != continued))
        with releases.locked():
            names, current = releases.names(), releases.current
            name = next((name for name in names if name.endswith(sha256[:HASH])), None)
            line = None if name and name == current else releases.replaced(sha256)
        if line and (name or not beside):  # --beside brings back a copy that was pruned
            why = f"not delivered again: replaced on {line['at']} ({line['what']}: {line['why']})"
            where = shlex.quote(str(folder))
            again = "" if name else f"release.py deliver {bundle} {where} --beside, then "
            to = name or "NAME"
            warn(f"{bundle}: {why}; to make it current again: {again}release.py back {where} --to {to} --reason TEXT")
            return {"run": facts["run"], "release": None, "why": why}
        facts["beside"] = current if beside and name != current else None
        if name is None:
            name = new_name(names, sha256)
            facts["release"] = name
            require_files(bundle, files)
            place.copy(bundle, f"{RELEASES}/{name}", files, facts)
        else:
            facts |= {"release": name, "at": releases.facts(name)["at"]}
            place.write_json(f"{RELEASES}/{name}/{RELEASE}", facts)
            log.info("%s: this bundle has a copy already", folder)
        with releases.locked():
            if name == releases.current:
                log.info("%s: this bundle is current already, as %s: nothing to do", folder, name)
            elif not beside:
                releases.move(name, "deliver", facts["why"])
            old = releases.prune(keep)
        place.remove(*old)
    return facts


@contextmanager
def releases_at(target: Path | str, create: bool = False) -> Iterator[Releases]:
    """Open the releases in a folder of this machine, or in one of an SSH host, where `create` makes it."""
    is_remote = SSH.fullmatch(str(target))
    with SshFolder(target, create) if is_remote else nullcontext(LocalFolder(target)) as place:
        yield Releases(target, place)


def delivered(arguments) -> dict:
    """Deliver a bundle to a target; return the facts of this delivery."""
    bundle, target = arguments.bundle, arguments.folder
    if isinstance(target, Path) and target.resolve().is_relative_to(bundle.resolve()):
        raise UserError("is inside the bundle", target, remedy="name a folder outside it")
    sums, facts = read_sums(bundle / SUMS), asked_of(bundle, arguments.force)
    if "release" in facts:
        return facts
    files = {**sums, SUMS: facts["bundle_sha256"]}
    if HUB.fullmatch(str(target)):
        require_files(bundle, files)
        return deliver_to_hub(bundle, target, files, facts, arguments.public)
    with releases_at(target, create=True) as releases:
        return deliver(bundle, releases, files, facts, arguments.keep, arguments.beside)


def step(arguments) -> None:
    """Run a command on a target."""
    target = arguments.folder
    try:
        if arguments.command == "deliver":
            facts = delivered(arguments)
            if arguments.delivered:
                write_json(arguments.delivered, facts | {"folder": str(target)})
        elif HUB.fullmatch(str(target)):
            told = "a repository of the hub has commits, not releases"
            raise UserError(told, target, remedy="see them on its page; deliver an earlier bundle to go back")
        else:
            with releases_at(target) as releases:
                if not releases.names():
                    raise UserError("has no releases", target, remedy="name the folder that bundles are delivered to")
                if arguments.command == "list":
                    show(releases)
                else:
                    with releases.locked():
                        releases.back(arguments.reason, arguments.to)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        remedy = "name another folder, or get the right to read and write there"
        raise UserError(error.strerror, error.filename, remedy=remedy) from None


def show(releases: Releases) -> None:
    """Print a line for each release."""
    current = releases.current
    before = releases.before(current)
    for name in releases.names():
        facts = releases.facts(name)
        mark = {current: "current", before: "before"}.get(name, "")
        print(f"{name}  {mark:8}{facts['run']}  {facts['why']}")


def target_argument(text: str) -> Path | str:
    """Return a folder of this machine as a path, and any other target as text."""
    if fault := target_fault(text):
        raise ArgumentTypeError(f"'{text}' {fault}")
    return text if SCHEME.match(text) else Path(text)


def reason_argument(text: str) -> str:
    """Return a written reason."""
    if not re.search(REASON, text):
        raise ArgumentTypeError("needs a written reason, of two words or more")
    return text


def parser():
    """Return the program's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("deliver", help="copy a bundle and make it current")
    add.add_argument("bundle", type=Path, help="folder of the bundle")
    back = commands.add_parser("back", help="make an earlier release current")
    for command in (add, back, commands.add_parser("list", help="list the releases")):
        command.add_argument(
            "folder", type=target_argument, help="folder of the releases; of an SSH host: ssh://[user@]host/folder"
        )
    add.add_argument("--keep", type=int, default=3, help="releases to keep, at least the current and the one before")
    told = "reason to deliver a bundle without the verdict promote; it is recorded"
    add.add_argument("--force", type=reason_argument, help=told)
    add.add_argument(
        "--beside", action="store_true", help="leave `current` as it is; watch.py may switch to the release"
    )
    add.add_argument("--public", action="store_true", help="hf://owner/name may be, or becomes, a public repository")
    add.add_argument("--delivered", type=Path, help="facts of the delivery to write (JSON)")
    back.add_argument("--reason", required=True, help="why; it is recorded")
    back.add_argument("--to", help="name of the release; default: the one before the current one")
    return parser


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
