"""Environments of the programs that ours are measured against, each with its pinned packages.

python -m tests.benchmarks.peers trl

They are made with pip under ~/.cache/snaketune/peers, once; an environment of other pins is made anew.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

PEERS = Path.home() / ".cache/snaketune/peers"
PINS = {
    "trl": (
        "torch==2.13.0",
        "trl==1.16.0",
        "transformers==5.23.0",
        "peft==0.21.2",
        "accelerate==1.15.0",
        "datasets==5.2.0",
    ),
    "minhash": ("datasketch==2.0.0", "rensa==0.5.0"),
}


def peer(name: str) -> Path:
    """Return the Python interpreter of a peer's environment, which is made if it isn't there."""
    folder, pins = PEERS / name, "\n".join(PINS[name])
    mark = folder / "pins.txt"  # written last
    if not mark.is_file() or mark.read_text(encoding="utf-8") != pins:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", *PINS[name]], check=True)
        mark.write_text(pins, encoding="utf-8")
    return folder / "bin/python"


def main() -> None:
    """Make environments and print their interpreters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=PINS)
    for name in parser.parse_args().names:
        print(peer(name))


if __name__ == "__main__":
    main()
