"""A Slurm as sites with many users have it: accounts in a database, several partitions, and two kinds of GPUs."""

import getpass
import socket
import subprocess
from pathlib import Path
from typing import ClassVar

from tests.support.slurm import NODES, Slurm, find, free_ports, until

# Its controller forgets jobs within a minute of their end: only the database knows how they ended.
SITE = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
# With munge this is no password: it says where munged listens.
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu:old,gres/gpu:new
AccountingStoreFlags=job_comment
AccountingStorageEnforce=associations,limits,qos
MinJobAge=60
PartitionName=accelerated Nodes={names} MaxTime=INFINITE State=UP
PartitionName=slow Nodes={names} MaxTime=INFINITE State=UP
"""
DATABASE_CONFIG = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=accounts
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""
# Only those of the socket's folder come in, all of them; what a power cut would lose may be lost.
DATABASE = ("--skip-networking", "--skip-grant-tables", "--innodb-flush-log-at-trx-commit=0")
# What the database is asked of a job, by the names that `scontrol show job` has for it.
COLUMNS = {
    "JobId": "JobIDRaw", "JobState": "State", "Comment": "Comment", "Account": "Account", "QOS": "QOS",
    "Partition": "Partition", "NodeList": "NodeList", "TRES": "AllocTRES", "WorkDir": "WorkDir",
}  # fmt: skip


class AccountedSlurm(Slurm):
    """A cluster with slurmdbd and a database of its own, where jobs need an account.

    The user's own account is `teaching`, with the QOS `normal`; `research` and `urgent` are there to be asked for. The
    partitions `accelerated` and `slow` have the same nodes as `main`, the default one. n1 has an `old` GPU and n2 a
    `new` one.
    """

    gpus: ClassVar = {"n1": "gpu:old:1", "n2": "gpu:new:1"}
    gpu_files = "".join(
        f"NodeName={node} Name=gpu Type={kind} Count=1 File=/dev/null\n"
        for node, kind in (("n1", "old"), ("n2", "new"))
    )

    def __init__(self, folder: Path):
        super().__init__(folder)
        (self.port,) = free_ports(1)
        self.site = SITE.format(folder=folder, port=self.port, names=",".join(NODES))
        # Where slurmdbd's library looks for the database.
        self.environment["MYSQL_UNIX_PORT"] = str(folder / "database.socket")

    def start_accounting(self) -> None:
        """Start the database and slurmdbd, and enter the cluster, its accounts and its only user."""
        folder, user = self.folder, getpass.getuser()
        data = f"--datadir={folder}/database"
        make = [find("mariadb-install-db"), "--no-defaults", data, f"--user={user}", "--skip-test-db"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder)
        place = f"--socket={self.environment['MYSQL_UNIX_PORT']}"
        self.start_daemon("mariadbd", "--no-defaults", data, place, f"--user={user}", *DATABASE)
        until((folder / "database.socket").exists, "mariadbd makes its socket")
        settings = folder / "slurmdbd.conf"
        facts = {"host": socket.gethostname().split(".")[0], "folder": folder, "port": self.port, "user": user}
        settings.write_text(DATABASE_CONFIG.format(**facts))
        settings.chmod(0o600)
        self.start_daemon("slurmdbd", "-D")
        until(self.answers, "slurmdbd answers")
        for entry in (
            ("cluster", "snaketune"),
            ("qos", "urgent"),
            ("account", "teaching,research", "cluster=snaketune"),
            ("user", user, "account=teaching,research", "defaultaccount=teaching", "qos=normal,urgent"),
        ):
            self.run("sacctmgr", "--immediate", "add", *entry)

    def jobs(self) -> list[dict[str, str]]:
        """Return what the database says of each job; of a job that went back into the queue, of each of its starts."""
        columns = f"--format={','.join(COLUMNS.values())}"
        shown = self.run("sacct", "--allocations", "--duplicates", "--parsable2", "--noheader", columns)
        return [dict(zip(COLUMNS, line.split("|"), strict=True)) for line in shown.splitlines()]

    def answers(self) -> bool:
        """Return whether slurmdbd answers."""
        ask = ["sacctmgr", "--noheader", "show", "cluster"]
        return subprocess.run(ask, env=self.env_vars(), capture_output=True, check=False).returncode == 0
