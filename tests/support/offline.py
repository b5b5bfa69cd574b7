"""Commands in a network namespace that holds nothing, and a witness of each reach for the network."""

import os
import subprocess
import sys
from pathlib import Path

from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE
from tests.support.needs import need
from tests.support.project import Project

# Steps have the project's folder on their path, so Python runs this first in each: every reach is written down, also
# one whose failure a library keeps to itself.
WITNESS = """
import os, sys

def witness(event, arguments):
    if event == "socket.getaddrinfo":
        place = arguments[0]
    elif event == "socket.connect" and not isinstance(arguments[1], (str, bytes)):
        place = arguments[1][0]
    else:
        return
    with open(os.path.join(os.path.dirname(__file__), "reached.txt"), "a") as file:
        file.write(f"{place} {sys.argv}\\n")

sys.addaudithook(witness)
"""


def in_no_network(*command: str) -> list[str]:
    """Return a command that runs another one where there is no network, not even a loopback that is up."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return [need("unshare", "apt-get install util-linux"), "--net", *as_root, *command]


class OfflineProject(Project):
    """A small project that keeps off the network, with the witness."""

    @classmethod
    def made_in(cls, folder: Path) -> "OfflineProject":
        """Make the project in an empty folder."""
        project = super().made_in(folder)
        config = folder / "config" / "config.yaml"
        config.write_text("offline: true\n" + config.read_text())
        project.write("sitecustomize.py", WITNESS)
        return project

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess:
        """Run snakemake in the project without a network, and with no archive of the converter but a given one."""
        tools = Path(sys.executable).parent
        own = {name: value for name, value in os.environ.items() if name != ARCHIVE_VARIABLE}
        own |= {"PYTHONPATH": str(self.folder), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", **variables}
        command = in_no_network(str(tools / "snakemake"), *words, "--quiet", "host", "reason", "--cores", "2")
        return subprocess.run(
            command, cwd=self.folder, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )

    def reached(self) -> str:
        """Return who reached for the network, and forget it."""
        file = self.folder / "reached.txt"
        text = file.read_text() if file.exists() else ""
        file.unlink(missing_ok=True)
        return text
