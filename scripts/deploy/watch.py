"""Ask the monitor about a candidate, and make it current or go back to the release before it.

    python scripts/deploy/watch.py monitor.sqlite /srv/football --candidate 20261129T210000Z-0123456789ab \\
        --after "systemctl restart snaketune"

It asks every few seconds, until the monitor decides for `switch` or `rollback`; with `--once` it asks once. `--after`
is a shell command that runs after the change, with DECISION and RELEASE (the one that is current now) as variables.
Needs the standard library only.
"""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from scripts.common.cli import log, step_main, step_parser
from scripts.common.errors import UserError
from scripts.deploy.quality_monitor import ABTestMonitor
from scripts.deploy.release import Releases


def follow(releases: Releases, candidate: str, decision: str, why: str) -> None:
    """Change `current` as the monitor decided, and note it in the history; do nothing where that is done already.

    A rollback of a candidate that is not current is noted, so that it is not delivered again by mistake. A candidate
    that was replaced after its delivery stays replaced.
    """
    with releases.locked():
        if candidate not in releases.names():
            remedy = f"there are: {', '.join(releases.names())}"
            raise UserError(f"has no release '{candidate}'", releases.folder, remedy=remedy)
        if decision == "rollback" and releases.current == candidate:
            releases.back(why, what="rollback")
        elif line := releases.replaced(candidate):
            log.info("%s was replaced already on %s (%s: %s)", candidate, line["at"], line["what"], line["why"])
        elif decision == "rollback":
            releases.note("rollback", candidate, releases.current, why)
        elif releases.current != candidate:
            releases.move(candidate, "switch", why)
        elif not any(line["what"] == "switch" and line["to"] == candidate for line in releases.history()):
            releases.note("switch", candidate, candidate, why)


def run_after(releases: Releases, candidate: str, decision: str, command: str) -> None:
    """Run the command that follows a change, unless the history says that it ran since; note that it ran."""
    lines = [line for line in releases.history() if candidate in (line["from"], line["to"])]
    if lines[-1]["what"] == "after":
        return
    environment = {**os.environ, "DECISION": decision, "RELEASE": str(releases.current)}
    status = subprocess.run(command, shell=True, env=environment, check=False).returncode  # noqa: S602
    if status:
        raise UserError(f"the command of --after ended with exit status {status}: {command}", remedy="run it by hand")
    with releases.locked():
        releases.note("after", candidate, candidate, f"{decision}: ran {command}")


def watch(arguments) -> None:
    """Ask the monitor until it decides, follow its decision, and run the command."""
    releases = Releases(arguments.folder)
    try:
        monitor = ABTestMonitor(arguments.monitor, read_only=True)
        while (decided := monitor.decision())["decision"] not in ("switch", "rollback") and not arguments.once:
            time.sleep(arguments.every)
    except (ValueError, sqlite3.Error) as error:
        raise UserError(f"can't be read: {error}", arguments.monitor) from None
    decision, why = decided["decision"], decided["reason"]
    log.info("%s: %s: %s", arguments.candidate, decision, why)
    if decision in ("switch", "rollback"):
        follow(releases, arguments.candidate, decision, why)
        if arguments.after:
            run_after(releases, arguments.candidate, decision, arguments.after)


def parser():
    """Return the program's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    parser.add_argument("monitor", type=Path, help="SQLite file of the monitor")
    parser.add_argument("folder", type=Path, help="folder of the releases")
    parser.add_argument("--candidate", required=True, help="name of the new release, as `release.py list` shows it")
    parser.add_argument("--every", type=float, default=10, help="seconds between two questions")
    parser.add_argument("--once", action="store_true", help="ask once, and end")
    parser.add_argument("--after", help="shell command to run after a change, such as a restart of the server")
    return parser


main = step_main(watch, parser)

if __name__ == "__main__":
    sys.exit(main())
