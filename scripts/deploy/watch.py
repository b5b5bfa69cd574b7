"""Ask the monitor about a candidate, and make it current or go back to the release before it.

    python scripts/deploy/watch.py monitor.sqlite /srv/football --candidate 20261129T210000Z-0123456789ab \\
        --after "systemctl restart snaketune"

It asks every few seconds, until the monitor decides for `switch` or `rollback`; with `--once` it asks once. `--after`
is a shell command that runs after the change, with DECISION and RELEASE (the one that is current now) as variables.
No package is needed; outside .venv start it in a checkout with `PYTHONPATH=$PWD python3.11 -m scripts.deploy.watch`.
"""

import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from scripts.common.cli import log, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.terminal import warn
from scripts.deploy.quality_monitor import ABTestMonitor
from scripts.deploy.release import HASH, Releases, target_argument


def follow(releases: Releases, candidate: str, decision: str, why: str) -> bool:
    """Do what the monitor decided, and note it in the history; return whether anything changed.

    A candidate that is rejected beside the current release is noted, so that it is not delivered again by mistake. What
    was done since the candidate's delivery counts: it stays replaced, and a newer delivery stays current.
    """
    with releases.locked():
        current, line = releases.current, releases.replaced(candidate[-HASH:])
        if current == candidate and decision == "rollback":
            releases.back(why, what="rollback")
        elif current == candidate:
            return False
        elif line:
            log.info("%s was replaced already on %s (%s: %s)", candidate, line["at"], line["what"], line["why"])
            return False
        elif decision == "rollback":
            releases.note("rollback", candidate, current, why)
        elif releases.facts(candidate)["beside"] != current:
            warn(f"{candidate}: not switched to, as `current` has changed since its delivery; deliver it beside again")
            return False
        else:
            releases.move(candidate, "switch", why)
        return True


def asked(monitor: Path, candidate: str, delivered: datetime) -> dict:
    """Return the monitor's decision. Raises UserError for calls from before the delivery: they are of another model."""
    found = ABTestMonitor(monitor, read_only=True).decision()
    if found["since"] and found["since"] < delivered.timestamp():
        since = datetime.fromtimestamp(found["since"], UTC).isoformat(timespec="seconds")
        told = f"its calls of '{found['new']}' began on {since}, before the delivery of {candidate}"
        raise UserError(told, monitor, remedy="name a new file for each candidate")
    return found


def watch(arguments) -> None:
    """Ask the monitor until it decides, follow its decision, and run the command."""
    if not arguments.every > 0:
        raise UserError("--every must be above 0 seconds")
    if not isinstance(arguments.folder, Path):
        raise UserError("watch.py follows a folder of its own machine", arguments.folder, remedy="run it on the server")
    releases, candidate, told = Releases(arguments.folder), arguments.candidate, None
    delivered = datetime.fromisoformat(releases.facts(candidate)["at"])
    if candidate == releases.current and not releases.before(candidate):
        warn(f"{candidate}: there is no release before it to go back to")
    while True:
        try:
            found = asked(arguments.monitor, candidate, delivered)
            if found["decision"] in ("switch", "rollback") or arguments.once:
                break
        except (ValueError, sqlite3.Error) as error:
            # A file that is not there yet, or that a writer has locked, is read later.
            is_passing = isinstance(error, sqlite3.OperationalError) or not arguments.monitor.exists()
            if arguments.once or not is_passing:
                raise UserError(f"can't be read: {error}", arguments.monitor) from None
            if told != str(error):
                told = str(error)
                warn(f"{arguments.monitor}: can't be read yet: {told}")
        time.sleep(arguments.every)
    decision, why = found["decision"], found["reason"]
    log.info("%s: %s: %s", candidate, decision, why)
    has_changed = decision in ("switch", "rollback") and follow(releases, candidate, decision, why)
    if has_changed and arguments.after:
        environment = {**os.environ, "DECISION": decision, "RELEASE": str(releases.current)}
        # The operator gives the command; what the monitor says reaches it in variables only.
        status = subprocess.run(arguments.after, shell=True, env=environment, check=False).returncode  # noqa: S602
        if status:
            told = f"the command of --after ended with exit status {status}: {arguments.after}"
            raise UserError(told, remedy="run it by hand")


def parser():
    """Return the program's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    parser.add_argument("monitor", type=Path, help="SQLite file of the monitor")
    parser.add_argument("folder", type=target_argument, help="folder of the releases, on this machine")
    parser.add_argument("--candidate", required=True, help="name of the new release, as `release.py list` shows it")
    parser.add_argument("--every", type=float, default=10, help="seconds between two questions")
    parser.add_argument("--once", action="store_true", help="ask once, and end")
    parser.add_argument("--after", help="shell command to run after a change, such as a restart of the server")
    return parser


main = step_main(watch, parser)

if __name__ == "__main__":
    sys.exit(main())
