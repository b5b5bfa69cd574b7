"""Environments of the programs that ours are measured against, each with its pinned packages.

python -m tests.benchmarks.peers trl llamafactory axolotl

They are made with pip under ~/.cache/snaketune/peers, once; an environment of other pins is made anew. LLaMA-Factory
and Axolotl are installed without what they declare, beside the packages that a text training imports: Axolotl declares
xformers and flash-linear-attention, and LLaMA-Factory torchaudio, whose builds need CUDA.
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
    "llamafactory": (
        "torch==2.13.0",
        "transformers==5.6.0",
        "peft==0.18.1",
        "accelerate==1.11.0",
        "datasets==4.0.0",
        "trl==0.24.0",
        *("av==16.0.0", "einops==0.8.2", "fastapi==0.165.0", "fire==0.7.1", "hf-transfer==0.1.9", "matplotlib==3.11.2"),
        *("modelscope==1.40.2", "omegaconf==2.4.0", "pillow==13.0.0", "scipy==1.17.1", "sentencepiece==0.2.3"),
        *("sse-starlette==3.7.0", "tiktoken==0.14.0", "torchdata==0.11.0", "tyro==0.8.14", "uvicorn==0.54.0"),
    ),
    "axolotl": (
        "torch==2.13.0",
        "transformers==5.16.1",
        "peft==0.20.0",
        "accelerate==1.13.0",
        "datasets==4.8.4",
        "trl==1.9.0",
        *("addict==2.4.0", "antlr4-python3-runtime==4.13.2", "art==6.5", "axolotl-contribs-lgpl==0.0.7"),
        *("axolotl-contribs-mit==0.0.6", "bitsandbytes==0.50.2", "colorama==0.4.6", "einops==0.8.2", "evaluate==0.4.1"),
        *("fastcore==2.2.41", "fire==0.7.1", "hf-transfer==0.1.9", "huggingface-hub==1.17.0", "immutabledict==4.2.0"),
        *("langdetect==1.0.9", "numba==0.68.1", "nvidia-ml-py==12.560.30", "packaging==26.0", "pillow==11.3.0"),
        *("posthog==6.7.11", "pydantic==2.12.5", "python-dotenv==1.0.1", "PyYAML==6.0.3", "schedulefree==1.4.1"),
        *("scipy==1.17.1", "sentencepiece==0.2.3", "tokenizers==0.23.1", "triton==3.6.0", "typer==0.25.1"),
        *("wandb==0.31.0", "zstandard==0.22.0"),
    ),
    "minhash": ("datasketch==2.0.0", "rensa==0.5.0"),
}
BARE = {"llamafactory": "llamafactory==0.9.5", "axolotl": "axolotl==0.19.0"}  # without what they declare
# Modules that are imported but not called by a text training: nothing in them.
EMPTY = {"llamafactory": "torchaudio"}


def peer(name: str) -> Path:
    """Return the Python interpreter of a peer's environment, which is made if it isn't there.

    Raises CalledProcessError if pip can't install it.
    """
    folder, python = PEERS / name, PEERS / name / "bin/python"
    pins = "\n".join([*PINS[name], BARE.get(name, ""), EMPTY.get(name, "")]).rstrip("\n")
    mark = folder / "pins.txt"  # written last
    if not mark.is_file() or mark.read_text(encoding="utf-8") != pins:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *PINS[name]], check=True)
        if name in BARE:
            subprocess.run([*install, "--no-deps", BARE[name]], check=True)
        if name in EMPTY:
            (next(folder.glob("lib/python*/site-packages")) / f"{EMPTY[name]}.py").touch()
        mark.write_text(pins, encoding="utf-8")
    return python


def main() -> None:
    """Make environments and print their interpreters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=PINS)
    for name in parser.parse_args().names:
        print(peer(name))


if __name__ == "__main__":
    main()
