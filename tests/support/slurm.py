"""A real Slurm on this machine's loopback: a controller and two nodes with one GPU each, in a folder of their own."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from tests.support.needs import need
from tests.support.process_tree import kill, stop_tree

INSTALLER = "tests/system/install_slurm.sh"
NODES = ("n1", "n2")
PATIENCE = 300  # seconds until a daemon must answer

# `config_overrides`: the nodes are what this file says, whatever the machine has. OverMemoryKill looks every 2 seconds.
CONFIG = """
ClusterName=snaketune
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A job that is put back into the queue waits until its old credential is void: two minutes by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/finished-jobs.txt
SlurmdTimeout=10
ReturnToService=2
DefMemPerCPU=1000
KillWait=20
GresTypes=gpu
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP
{site}
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=32000 Gres={gpus}"


class Slurm:
    """A cluster in a folder; `environment` is what its users need, `run` is a command of theirs.

    It takes free ports, has a munge key of its own and touches nothing of another Slurm on the machine. It runs as
    whoever starts it: as root, too.
    """

    # What other clusters have otherwise: see tests/support/slurm_accounting.py.
    site = "AccountingStorageType=accounting_storage/none\nMinJobAge=600"
    gpus: ClassVar = dict.fromkeys(NODES, "gpu:1")
    gpu_files = "Name=gpu Count=1 File=/dev/null\n"

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join((str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])),
        }
        self.daemons: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        """Write the configuration and start all daemons; return when both nodes wait for jobs."""
        folder, host = self.folder, socket.gethostname().split(".")[0]
        folder.chmod(0o755)
        (folder / "state").mkdir()
        controller, *ports = free_ports(1 + len(NODES))
        nodes = "\n".join(
            NODE.format(name=n, host=host, port=p, gpus=self.gpus[n]) for n, p in zip(NODES, ports, strict=True)
        )
        facts = {"host": host, "user": getpass.getuser(), "folder": folder, "controller": controller}
        settings = CONFIG.format(**facts, nodes=nodes, names=",".join(NODES), site=self.site)
        (folder / "slurm.conf").write_text(settings)
        # Inside a job Snakemake's plugin takes every SLURM_ variable from srun, SLURM_CONF with them.
        srun = f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {find("srun")} "$@"\n'
        (folder / "bin").mkdir()
        (folder / "bin" / "srun").write_text(srun)
        (folder / "bin" / "srun").chmod(0o755)
        (folder / "gres.conf").write_text(self.gpu_files)
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        options = [
            f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("key-file", "socket", "pid-file", "log-file")
        ]
        self.start_daemon("munged", "-F", "--force", f"--seed-file={folder}/munge.seed", *options)
        until((folder / "munge.socket").exists, "munged makes its socket")
        self.start_accounting()
        self.start_daemon("slurmctld", "-D", "-f", f"{folder}/slurm.conf")
        for name in NODES:
            self.start_node(name)
        until(lambda: all(self.state(name) == "IDLE" for name in NODES), "both nodes are idle")

    def start_accounting(self) -> None:
        """Start what keeps the accounts: nothing here."""

    def start_daemon(self, program: str, *arguments: str, name: str | None = None) -> None:
        """Start a daemon that stays in the foreground, its messages in a file of the folder."""
        name = name or program
        with open(self.folder / f"{name}.out", "ab") as messages:
            command = [find(program), *arguments]
            self.daemons[name] = subprocess.Popen(
                command, env=self.env_vars(), stdout=messages, stderr=messages, cwd=self.folder
            )

    def start_node(self, name: str) -> None:
        """Start a node's daemon: at the beginning, or again after `kill_node`."""
        (self.folder / f"spool-{name}").mkdir(exist_ok=True)
        self.start_daemon("slurmd", "-D", "-N", name, "-f", f"{self.folder}/slurm.conf", name=name)

    def kill_node(self, name: str) -> None:
        """Let a node die as in a power cut: its daemon and all that runs on it, without a word."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()
        for pid in self.steps(name):
            kill(stop_tree(pid))

    def steps(self, *names: str) -> list[int]:
        """Return the ids of the processes that look after the jobs' steps on these nodes."""
        ours = []
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                # slurmstepd names the job in its command line, and the node's folder in no argument: its files do.
                if not status.read_bytes().startswith(b"slurmstepd:"):
                    continue
                open_files = [os.readlink(link) for link in (status.parent / "fd").iterdir()]
            except OSError:
                continue
            if any(file.startswith(f"{self.folder}/slurmd-{name}.log") for file in open_files for name in names):
                ours.append(int(status.parent.name))
        return ours

    def stop(self) -> None:
        """End all jobs and every process that `start` started; nothing else."""
        if "slurmctld" in self.daemons:
            subprocess.run(["scancel", "--user", getpass.getuser()], env=self.env_vars(), check=False)
            deadline = time.monotonic() + PATIENCE
            while self.steps(*NODES) and time.monotonic() < deadline:
                time.sleep(0.5)
        for pid in self.steps(*NODES):
            kill(stop_tree(pid))
        for daemon in reversed(list(self.daemons.values())):
            daemon.terminate()
            try:
                daemon.wait(timeout=60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons.clear()

    def env_vars(self) -> dict[str, str]:
        """Return this process's environment with what this cluster's users need."""
        return {**os.environ, **self.environment}

    def run(self, *command: str, timeout: float = 600) -> str:
        """Run a command of a user of this cluster (`srun`, `sbatch`, `scontrol`, …); return what it prints.

        Raises AssertionError with all its output when it fails.
        """
        done = subprocess.run(
            command, env=self.env_vars(), capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def state(self, node: str) -> str:
        """Return the state of a node, as in IDLE, MIXED or DOWN*; empty as long as nobody answers."""
        done = subprocess.run(
            ["scontrol", "--oneliner", "show", "node", node],
            env=self.env_vars(),
            capture_output=True,
            text=True,
            check=False,
        )
        return fields(done.stdout).get("State", "")

    def jobs(self) -> list[dict[str, str]]:
        """Return what `scontrol show job` says of each job of the last ten minutes."""
        shown = self.run("scontrol", "--oneliner", "--details", "show", "job")
        return [fields(line) for line in shown.splitlines() if line.startswith("JobId=")]


def fields(line: str) -> dict[str, str]:
    """Return the KEY=VALUE words of a line of scontrol's."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def find(program: str) -> str:
    """Return where a daemon is: Debian puts some of them where an ordinary user's path doesn't look."""
    path = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
    return shutil.which(program, path=path) or need(program, INSTALLER)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until a condition holds; raise AssertionError when it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
