"""Start the processes that train one run, on one node or with `srun` on several, and end them if one fails.

The processes run scripts/train/train_model.py with `--exchange FOLDER`: the first writes its result there, and a
process that fails writes why. On several nodes `srun` starts this file once per node, and it starts the node's
processes:

    python scripts/train/launch.py --count 4 -- python scripts/train/train_model.py ...
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_json, write_json
from scripts.common.parent_watchdog import die_with_parent
from scripts.common.terminal import terminal
from scripts.train.memory import has_risen, oom_kills
from scripts.train.stop import SIGNALS

RENDEZVOUS = "SNAKETUNE_RENDEZVOUS"  # environment variable with the rendezvous address
RESULT = "result.json"
GRACE = 15  # seconds that the others have to exit after one has failed
TRAIN_MODEL = Path(__file__).with_name("train_model.py")


def train_in_processes(arguments, attempt: int) -> tuple[list[dict], dict]:
    """Train the run of `train_model.py`'s arguments in several processes; return curve and facts.

    Raises UserError, MemoryError if one ran out of memory, and RuntimeError if one failed or was killed.
    """
    training = arguments.settings["training"]
    nodes, count = training["nodes"], training["processes"]
    exchange = arguments.checkpoints.with_name(".processes").absolute()
    shutil.rmtree(exchange, ignore_errors=True)
    exchange.mkdir(parents=True)
    try:
        command = [sys.executable, str(TRAIN_MODEL), *command_line(arguments, attempt, exchange)]
        status = run_here(command, count, exchange) if nodes == 1 else run_on_nodes(command, arguments, exchange)
        if status == 0 and (exchange / RESULT).exists():
            result = read_json(exchange / RESULT)
            return result["curve"], result["facts"]
        raise why_failed(exchange, status)
    finally:
        shutil.rmtree(exchange, ignore_errors=True)


def command_line(arguments, attempt: int, exchange: Path) -> list[str]:
    """Return the command line of each process."""
    write_json(exchange / "settings.json", arguments.settings)
    paths = ("base", "images", "checkpoints", "output", "curve", "facts", "log")
    given = {key: getattr(arguments, key) for key in paths if getattr(arguments, key)}
    named = {**given, "settings": f"@{exchange}/settings.json", "exchange": exchange}
    named |= {"threads": max(arguments.threads // arguments.settings["training"]["processes"], 1), "attempt": attempt}
    return [str(arguments.tokens), *(str(word) for key, value in named.items() for word in (f"--{key}", value))]


def run_here(command: list[str], count: int, exchange: Path, node: int = 0, nodes: int = 1) -> int:
    """Run `count` processes on a node; return 0, or the exit status of the first that failed.

    If one fails, the others, which would wait for it, are ended. SIGTERM is passed on to all.
    """
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        environment = {**os.environ, "WORLD_SIZE": str(count * nodes), "LOCAL_WORLD_SIZE": str(count)}
        if nodes == 1:
            environment[RENDEZVOUS] = f"file://{folder}/rendezvous"
            environment |= dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), "lo")
        processes = []
        with Stopper(processes) as stopper:
            for number in range(count):
                names = {"RANK": str(node * count + number), "LOCAL_RANK": str(number)}
                # The first process writes to the terminal, because it shows the progress; the others write to the log.
                to = terminal.stream if node == number == 0 and terminal.apart_from_log else None
                variables = {**environment, **names}
                processes.append(subprocess.Popen(command, env=variables, stderr=to, preexec_fn=as_helper))
            if stopper.asked:  # by a signal that came before all had started
                stopper.stop()
            return first_failure(processes, stopper, exchange, node * count)


def as_helper() -> None:
    """Make a child process end with its parent, and ignore signals that terminals and srun send to every process."""
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class Stopper:
    """Passes SIGTERM, and signals with the same meaning, on to processes as one signal; `asked` is true after one came.

    srun kills its processes on SIGTERM, but passes SIGUSR1 on, so SIGUSR1 has the same meaning here. After the block
    all processes have ended: those that still run after GRACE seconds are killed.
    """

    def __init__(self, processes: list[subprocess.Popen], signal_to_pass_on: int = signal.SIGTERM):
        self.processes, self.signal_to_pass_on, self.asked = processes, signal_to_pass_on, False

    def __enter__(self) -> "Stopper":
        self.before = {number: signal.signal(number, self.stop) for number in (*SIGNALS, signal.SIGUSR1)}
        return self

    def stop(self, *_) -> None:
        self.asked = True
        for process in self.processes:
            process.send_signal(self.signal_to_pass_on)

    def __exit__(self, *_) -> None:
        for number, before in self.before.items():
            signal.signal(number, before)
        deadline = time.monotonic() + GRACE
        for process in self.processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def first_failure(processes: list[subprocess.Popen], stopper: Stopper, exchange: Path, first: int) -> int:
    """Wait for processes, numbered from `first`; return 0 or the status of one that failed.

    Records the failure of those that a signal ended, such as SIGTERM before Python handles signals.
    """
    kills = oom_kills()
    while True:
        # All are checked, because a process that lost its connection to a killed one may end first.
        failed = {number: process.returncode for number, process in enumerate(processes, first) if process.poll()}
        for number, status in failed.items():
            if status == -signal.SIGTERM and stopper.asked:
                note_failure(exchange, number, "user", "stopped by SIGTERM before the training began; run again")
            elif status < 0:
                name = signal.Signals(-status).name
                kind = "memory" if name == "SIGKILL" and has_risen(kills, oom_kills()) else "killed"
                note_failure(exchange, number, kind, f"process {number} was ended by {name}")
        if failed:
            return min(failed.values())
        if all(process.poll() == 0 for process in processes):
            return 0
        time.sleep(0.1)


def run_on_nodes(command: list[str], arguments, exchange: Path) -> int:
    """Start this file with srun once on each node of the Slurm job; return the exit status."""
    training = arguments.settings["training"]
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        raise UserError("training.nodes: training on several nodes needs a Slurm job", remedy="see profiles/slurm")
    if shutil.which("srun") is None:
        raise UserError("training.nodes: srun was not found", remedy="train on several nodes without --sdm apptainer")
    nodes = str(training["nodes"])
    launch = [
        "srun", "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node", "1", "--export", "ALL", "--kill-on-bad-exit",
        "--cpus-per-task", str(arguments.threads), "--wait", str(2 * GRACE),
        sys.executable, str(Path(__file__)), "--count", str(training["processes"]), "--exchange", str(exchange),
        *(["--log", str(arguments.log)] if arguments.log else []), "--", *command,
    ]  # fmt: skip
    # This runs on the first node of the job, as the job's script does.
    port = str(20000 + int(job) % 20000)
    rendezvous = {RENDEZVOUS: "env://", "MASTER_ADDR": socket.gethostname(), "MASTER_PORT": port}
    variables = {**os.environ, **rendezvous}
    process = subprocess.Popen(launch, env=variables, stderr=terminal.stream, preexec_fn=die_with_parent)
    with Stopper([process], signal.SIGUSR1):
        return process.wait()


def note_failure(exchange: Path, number: int, kind: str, message: str) -> None:
    """Record a failure: `kind` is killed, memory, user or fault."""
    write_json(exchange / f"failed-{number}.json", {"kind": kind, "message": message})


def why_failed(exchange: Path, status: int) -> Exception:
    """Return the error for the recorded failures: the one that caused the others."""
    failures = [read_json(path) for path in sorted(exchange.glob("failed-*.json"))]
    kinds = {"killed": RuntimeError, "memory": MemoryError, "user": UserError, "fault": RuntimeError}
    for kind, error in kinds.items():
        for failure in failures:
            if failure["kind"] == kind:
                return error(failure["message"])
    return RuntimeError(f"the processes ended with status {status} and without a message")


def main(argv=None) -> int:
    """Start the processes of this node of a Slurm job; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, required=True, help="processes on this node")
    parser.add_argument("--exchange", type=Path, required=True, help="folder for results and failures")
    parser.add_argument("--log", type=Path, help="file for the output of the processes")
    parser.add_argument("command", nargs="+", help="command of each process")
    arguments = parser.parse_args(argv)
    terminal.redirect(arguments.log, go_on=True)
    node, nodes = int(os.environ["SLURM_NODEID"]), int(os.environ["SLURM_STEP_NUM_NODES"])
    return abs(run_here(arguments.command, arguments.count, arguments.exchange, node, nodes))


if __name__ == "__main__":
    sys.exit(main())
