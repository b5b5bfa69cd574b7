"""A folder of releases on an SSH host: what `Releases` needs of it, by ssh and rsync.

One `ssh` runs a POSIX shell there and stays open: each operation is a script for it, and its locks end with it. rsync
has connections of its own. The host needs sshd, rsync, sha256sum and flock (of util-linux or busybox). Only hosts whose
key is known are accepted, and nothing asks for a password. All else is up to the user's own ssh: its configuration,
agent and known_hosts.
"""

import json
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.common.cli import log
from scripts.common.errors import WORDS, UserError
from scripts.common.files import PARTIAL, sha256_of
from scripts.common.parent_watchdog import die_with_parent
from scripts.deploy.local_folder import differs, still_held
from scripts.deploy.sums import RELEASE, SUM_LINE, SUMS
from scripts.deploy.target import SSH

# ControlPath: a connection that others share may go to a host whose key nobody checked, and stays open afterwards.
OPTIONS = (
    "BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=20", "ServerAliveInterval=15",
    "ServerAliveCountMax=3", "ClearAllForwardings=yes", "RemoteCommand=none", "ControlPath=none",
)  # fmt: skip
AGAIN = "run the same command again to continue"
BIG = 2**20  # bytes; smaller files are not shared between releases, so that an edit of one changes no other
SILENCE = 120  # seconds without data after which rsync gives up
PARTS = ".rsync-partial"  # in each folder, where rsync keeps what came of a file
RSYNC = (
    "--copy-links", "--perms", "--ignore-existing", f"--partial-dir={PARTS}", f"--timeout={SILENCE}", "--from0",
    "--files-from=-", "--stats", "--no-human-readable",
)  # fmt: skip
CUT_OFF = (10, 12, 30, 35, 255)  # exit statuses of rsync, and that of ssh, for errors of the connection
# A lock of a connection that was cut off ends when the host notices, for which it must have something to send.
START = r"""
exec 3>&1; LC_ALL=C; export LC_ALL; F={folder}
flush() {{ sync -f "$1" 2>/dev/null || sync; }}
(while sleep 30; do echo . || exit; done) >&2 3>&- &
"""
RUN = r"""
e=$( {{ cd -- {folder} && set -- {words} && {{ {script}
}}; }} 2>&1 >&3 3>&- </dev/null ); s=$?; e=$(printf %s "$e" | tr '\n' ' '); printf '\n%s %s %s\n' {mark} "$s" "$e"
"""


class SshFolder:
    """Operations on paths below a folder of an SSH host, for the length of a `with` block."""

    def __init__(self, target: str, create: bool):
        found = SSH.fullmatch(target)
        self.target, self.login, self.folder, self.create = target, found["login"], found["folder"], create
        self.port = ["-p", found["port"]] if found["port"] else []
        self.ssh = ["ssh", "-T", *self.port, *(f"-o{option}" for option in OPTIONS)]
        self.descriptors: list[str] = []  # of the locks that are held

    def __enter__(self) -> "SshFolder":
        for program in ("ssh", "rsync") if self.create else ("ssh",):
            if not shutil.which(program):  # as in the images of containers
                remedy = "install it, or deliver outside of the container"
                raise UserError(f"{program} is not installed here", remedy=remedy)
        self.errors = tempfile.TemporaryFile()
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        command = [*self.ssh, "--", self.login.replace("[", "").replace("]", ""), "exec sh"]
        self.shell = subprocess.Popen(command, **streams, preexec_fn=die_with_parent)
        try:
            self.prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def prepare(self) -> None:
        """Start the shell; with `create` make the folder, after a look for the programs that a delivery needs."""
        self.send(START.format(folder=shlex.quote(self.folder)))
        self.run(":", at="/")  # with whatever the login shell has to say at its start
        if self.create:
            tools = self.run("for t in rsync sha256sum flock; do command -v $t >/dev/null || echo $t; done", at="/")
            if tools:
                raise UserError(f"has no {' and no '.join(tools.split())}", self.target, remedy="install it there")
            self.run('mkdir -p -- "$F"', at="/")

    def __exit__(self, *_) -> None:
        with suppress(OSError):
            self.shell.stdin.close()
        self.shell.stdout.close()
        self.shell.terminate()
        self.shell.wait()
        self.errors.close()

    def send(self, text: str) -> None:
        """Send lines to the shell."""
        try:
            self.shell.stdin.write(text.encode())
            self.shell.stdin.flush()
        except OSError:
            raise self.lost() from None

    def run(self, script: str, *words: str, at: str | None = None) -> str:
        """Run a script there, in the folder or `at` another, with words as $1, $2 and so on; return what it prints.

        Raises UserError with what it says if it fails, or if the connection is lost.
        """
        mark = secrets.token_hex(8)
        folder = shlex.quote(at or self.folder)
        self.send(RUN.format(folder=folder, words=shlex.join(words), script=script, mark=mark))
        lines: list[str] = []
        for line in self.shell.stdout:
            lines.append(line.decode(errors="replace"))
            if lines[-1].startswith(mark):
                _, status, said = lines.pop().rstrip("\n").split(" ", 2)
                if status != "0":
                    raise self.failed(said)
                return "".join(lines)[:-1]
        raise self.lost()

    def failed(self, said: str) -> UserError:
        """Return the error for what a program there said."""
        if WORDS.search(said):
            return UserError("the disk there is full", self.target, remedy=f"free some space on it, and {AGAIN}")
        told = f"failed there: {said.strip()[-300:] or 'no reason given'}"
        return UserError(told, self.target, remedy="mend it there, and run the same command again")

    def lost(self) -> UserError:
        """Return the error for the end of the connection."""
        with suppress(subprocess.TimeoutExpired):
            self.shell.wait(10)
        self.errors.seek(0)
        return self.refused(self.errors.read().decode(errors="replace"))

    def refused(self, said: str) -> UserError:
        """Return the error for what ssh said at the end of a connection."""
        host = self.login.rpartition("@")[2]
        host = f"'[{host}]:{self.port[1]}'" if self.port else host
        if "IDENTIFICATION HAS CHANGED" in said:
            told = "its host key is not the known one: the server was set up again, or another one answers"
            remedy = f"ask its administrator; if the new key is right, ssh-keygen -R {host}, and connect once with ssh"
        elif "Host key verification failed" in said:
            told = "its host key is not known here"
            remedy = "connect once with ssh, and compare the fingerprint that it shows with the server's"
        elif re.search(r"Permission denied \([a-z]", said):
            told = "refuses the login without a password"
            remedy = "load a key that it accepts into the agent, or name it in ~/.ssh/config (IdentityFile)"
        else:
            lines = [line.strip() for line in said.splitlines() if line.strip(". \r")] or ["no reason given"]
            reason = next((line for line in lines if line.startswith(("ssh:", "kex_", "rsync:"))), lines[-1])
            told = f"the connection was lost or not made: {reason}"
            remedy = AGAIN
        return UserError(told, self.target, remedy=remedy)

    def entries(self, name: str = "") -> list[str]:
        """Return the names in a folder; none if it does not exist."""
        return self.run('if [ -d "./$1" ]; then ls -A "./$1"; fi', name).splitlines()

    def linked(self, name: str) -> str | None:
        """Return the last name of what a link points to; None without the link. Raises UserError for anything else."""
        found = self.run('if [ -L "$1" ]; then readlink "$1"; elif [ -e "$1" ]; then echo /; fi', name).strip("\n")
        if found == "/":
            raise UserError("is not a link to a release", f"{self.target}/{name}", remedy="move it away")
        return Path(found).name or None

    def read_json(self, name: str) -> dict:
        """Return the contents of a JSON file."""
        return self.parsed(self.run('cat "$1"', name), name)

    def read_lines(self, name: str) -> list[dict]:
        """Return the objects of a JSONL file; none if it does not exist."""
        lines = self.run('if [ -f "$1" ]; then cat "$1"; fi', name).split("\n")
        return [self.parsed(line, name, number) for number, line in enumerate(lines, 1) if line.strip()]

    def parsed(self, text: str, name: str, line: int | None = None) -> dict:
        """Return the object in a JSON text."""
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"is not valid JSON: {error.msg}", f"{self.target}/{name}", line or error.lineno) from None

    def write_json(self, name: str, value: dict) -> None:
        """Write a JSON file atomically."""
        self.write(name, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")

    def write_lines(self, name: str, rows: list[dict]) -> None:
        """Write a JSONL file atomically."""
        self.write(name, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))

    def write(self, name: str, text: str) -> None:
        """Write a text file atomically."""
        beside = Path(name).with_name(f".{Path(name).name.removeprefix('.')}{PARTIAL}")
        script = 'printf %s "$3" >"$2" && flush "$2" && mv -fT "$2" "$1" || { rm -f "$2"; false; }'
        self.run(script, name, str(beside), text)

    def rename(self, old: str, new: str) -> None:
        """Rename a file or folder; a file takes the place of another."""
        self.run('mv -fT "$1" "$2"', old, new)

    def remove(self, *names: str) -> None:
        """Delete files and folders."""
        if names:
            self.run('rm -rf -- "$@"', *names)

    def point(self, name: str, to: str) -> None:
        """Let a link point to a path, in one step."""
        self.run('rm -f "$2" && ln -s "$3" "$2" && mv -fT "$2" "$1" && flush .', name, f".{name}{PARTIAL}", to)

    @contextmanager
    def held(self, name: str, patience: float) -> Iterator[None]:
        """Hold a lock during the block, as soon as no other process has it; wait so many seconds.

        Programs on that machine take the same locks. The lock ends with the connection.
        """
        descriptor = str(8 + len(self.descriptors))
        self.run(': >>"$1"', name)
        self.send(f'exec {descriptor}>>"$F/"{shlex.quote(name)}\n')
        self.descriptors.append(descriptor)
        end, has_told = time.monotonic() + patience, False
        try:
            while not self.run(f"flock -n {descriptor} && echo held || [ $? = 1 ]"):
                if time.monotonic() > end:
                    raise still_held(f"{self.target}/{name}")
                if not has_told:
                    has_told = True
                    log.info("%s: another delivery holds %s: waiting", self.target, name)
                time.sleep(0.2)
            yield
        finally:
            self.descriptors.remove(descriptor)
            with suppress(UserError):  # the connection is lost, and the lock with it
                self.send(f"exec {descriptor}>&-\n")

    def copy(self, bundle: Path, release: str, files: dict[str, str], facts: dict) -> None:
        """Copy files, given with their hashes, as a release, and write its release.json.

        What came before a connection was cut off is kept for the next try. Files that the host itself finds to differ
        from their hashes are sent once more.
        """
        part = f"{Path(release).parent}/.{Path(release).name.rpartition('-')[2]}{PARTIAL}"
        self.run('mkdir -p "$1"', part)
        self.link_unchanged(bundle, part, files)
        lines = "".join(f"{sha256}  {name}\n" for name, sha256 in files.items())
        check = 'cd "$1" && printf %s "$2" | sha256sum -c 2>/dev/null || :'
        for _ in range(2):
            self.send_files(bundle, part, files)
            told = self.run(check, part, lines).splitlines()
            wrong = [name for name in files if f"{name}: OK" not in told]
            if not wrong:
                break
            for name in wrong:
                if sha256_of(bundle / name) != files[name]:
                    raise differs(bundle / name)
            self.run('cd "$1" && shift && rm -f -- "$@"', part, *wrong)
        else:
            raise differs(bundle / wrong[0])
        self.write_json(f"{part}/{RELEASE}", facts)
        self.remove(*sorted({str(Path(part, name).parent / PARTS) for name in files}))
        self.run('flush "$1" && mv -T "$1" "$2" && flush .', part, release)

    def link_unchanged(self, bundle: Path, part: str, files: dict[str, str]) -> None:
        """Link big files that the current release has already, by their hashes in its SHA256SUMS."""
        lines = self.run(f"cat current/{SUMS} 2>/dev/null || :").splitlines()
        known = {found[1]: found[2] for found in map(SUM_LINE.fullmatch, lines) if found}
        pairs = [
            word
            for name, sha256 in files.items()
            if sha256 in known and (bundle / name).stat().st_size >= BIG
            for word in (known[sha256], name)
        ]
        # Where the file system has no links, rsync sends the files.
        script = """c=$PWD/current; cd "$1"; shift; while [ $# -gt 1 ]; do
            mkdir -p "$(dirname "./$2")"; ln "$c/$1" "./$2" 2>/dev/null; shift 2; done; :"""
        self.run(script, part, *pairs)

    def send_files(self, bundle: Path, part: str, names: dict[str, str]) -> None:
        """Send the files that are not there, or the rest of one that a cut-off connection left."""
        # The folder's name is only in this command for the shell there, as rsync would expand wildcards in it. The lock
        # lets the rsync of a connection that was cut off first put aside what it got.
        there = f"cd {shlex.quote(self.folder)} && flock {part} rsync"
        command = ["rsync", *RSYNC, "-e", shlex.join(self.ssh), "--rsync-path", there]
        command += [f"{bundle.absolute()}/", f"{self.login}:{part}/"]
        done = subprocess.run(
            command, input="\0".join(names).encode(), capture_output=True, check=False, preexec_fn=die_with_parent
        )
        said, stats = (text.decode(errors="replace") for text in (done.stderr, done.stdout))
        if done.returncode and WORDS.search(said):
            self.remove(part)  # a full disk stops whatever else runs there
            raise self.failed(said)
        if done.returncode:
            raise self.refused(said) if done.returncode in CUT_OFF or done.returncode < 0 else self.failed(said)
        sent, matched = (int(re.search(rf"{key}: (\d+)", stats)[1]) for key in ("Total bytes sent", "Matched data"))
        log.info("%s: %d bytes sent, %d continued from an earlier try", self.target, sent, matched)
