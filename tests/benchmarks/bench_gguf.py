"""The steps that write GGUF files beside llama.cpp's own converter and quantizer.

python -m tests.benchmarks.bench_gguf
python -m tests.benchmarks.bench_gguf --layers 20 --rounds 3

The model has random weights in bf16: a billion with 20 layers. Our steps also
check their inputs' hashes, write the metadata of a run, hash and sync their outputs; llama.cpp's programs do none of
that. The tensors of both are compared byte by byte.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from scripts.gguf.reader import read_gguf
from scripts.workflow.memory.shapes import Shape
from tests.benchmarks.compare import ROOT, Goal, Ran, compare, run
from tests.benchmarks.llama_cpp_tools import PROGRAM, llama_cpp_tools
from tests.support.gguf_files import conversion_settings
from tests.support.random_base import write_random_base

THREADS, QUANT, QUANTS = 2, "q4_k_m", ("q4_k_m", "q5_k_m", "q8_0")


def measured(ran: Ran) -> dict[str, float]:
    """Return a side's numbers by unit."""
    return {"s": ran.seconds, "CPU s": ran.cpu_seconds, "MiB": ran.mib}


def same_tensors(ours: Path, theirs: Path) -> None:
    """Raise SystemExit unless two GGUF files have the same tensors: names, order, shapes, types and bytes."""
    one, other = read_gguf(ours), read_gguf(theirs)
    if one.tensors != other.tensors:
        raise SystemExit(f"{ours} and {theirs} have other tensors")
    for tensor in one.tensors:
        if one.data(tensor) != other.data(tensor):
            raise SystemExit(f"{tensor.name} differs in {ours} and {theirs}")


class Sides:
    """The ways to write the files of a model."""

    def __init__(self, folder: Path, layers: int):
        self.folder, self.tools = folder, llama_cpp_tools()
        shape = Shape(32000, 2048, 5632, layers, 32, 8, 64)
        self.model = write_random_base(folder / "model", "llama", shape, 512, shard_bytes=500_000_000)
        self.millions = shape.parameters / 1e6

    def fresh(self, name: str) -> Path:
        """Return a file's path where nothing is."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return path

    def step(self, name: str, *words) -> dict[str, float]:
        """Run a step of ours."""
        command = [sys.executable, ROOT / "scripts/gguf" / name, *words, "--log", self.folder / "log"]
        return measured(run([str(word) for word in command], cwd=ROOT))

    def convert(self) -> dict[str, float]:
        """Convert by our step."""
        words = (self.model.parent, "--tools", self.tools / "converter", "--base", self.model)
        settings = json.dumps(conversion_settings())
        return self.step("convert_to_gguf.py", *words, "--output", self.fresh("ours.gguf"), "--settings", settings)

    def llama_convert(self) -> dict[str, float]:
        """Convert by llama.cpp's own program, and compare the tensors."""
        output, program = self.fresh("theirs.gguf"), self.tools / "converter/convert_hf_to_gguf.py"
        words = [sys.executable, program, self.model.parent, "--outfile", output, "--outtype", "bf16"]
        found = measured(run([str(word) for word in words]))
        same_tensors(self.folder / "ours.gguf", output)
        return found

    def quantize(self) -> dict[str, float]:
        """Quantize by our step."""
        words = (self.folder / "ours.gguf", "--quant", QUANT, "--threads", THREADS)
        return self.step("quantize_gguf.py", *words, "--output", self.fresh(f"ours.{QUANT}.gguf"))

    def each_quant(self, side: str, at_once: int, *command) -> dict[str, float]:
        """Run a command for each quant, whose name stands for {} in its words."""
        for quant in QUANTS:
            self.fresh(f"{side}.{quant}.gguf")
        (self.folder / "quants").write_text("\n".join(QUANTS), encoding="utf-8")
        with open(self.folder / "quants", "rb") as names:
            return measured(run(["xargs", f"-P{at_once}", "-I{}", *map(str, command)], stdin=names, cwd=ROOT))

    def quantize_all(self) -> dict[str, float]:
        """Make all quants by our step, as the workflow does on THREADS cores: side by side, with a thread each."""
        step = (sys.executable, ROOT / "scripts/gguf/quantize_gguf.py", self.folder / "ours.gguf", "--quant", "{}")
        output = ("--output", self.folder / "ours.{}.gguf", "--log", self.folder / "log.{}")
        return self.each_quant("ours", THREADS, *step, *output, "--threads", 1)

    def llama_quantize_all(self) -> dict[str, float]:
        """Make all quants by llama.cpp's own program, one after another, and compare the tensors."""
        words = (self.tools / PROGRAM, self.folder / "ours.gguf", self.folder / "theirs.{}.gguf", "{}", THREADS)
        found = self.each_quant("theirs", 1, *words)
        for quant in QUANTS:
            same_tensors(self.folder / f"ours.{quant}.gguf", self.folder / f"theirs.{quant}.gguf")
        return found

    def llama_quantize(self) -> dict[str, float]:
        """Quantize by llama.cpp's own program, and compare the tensors."""
        words = [self.tools / PROGRAM, self.folder / "ours.gguf", self.fresh(f"theirs.{QUANT}.gguf"), QUANT.upper()]
        found = measured(run([*map(str, words), str(THREADS)]))
        same_tensors(self.folder / f"ours.{QUANT}.gguf", self.folder / f"theirs.{QUANT}.gguf")
        return found


def main(argv=None) -> None:
    """Measure both steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=20, help="of the model; 20 are a billion weights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="for the files, 4 times the model's size (default: a temporary one)"
    )
    parser.add_argument("--only", choices=("convert", "quantize", "all"), help="only this; all: all quants")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="snaketune-gguf-") as folder:
        sides = Sides(Path(folder), arguments.layers)
        of = f"of a model of {sides.millions:,.0f} million weights"
        if arguments.only in (None, "convert"):
            compare(
                Goal("gguf_bf16", f"bf16 GGUF file {of}", "s", "<= 1"),
                {"ours": sides.convert, "llama.cpp's converter": sides.llama_convert},
                rounds=arguments.rounds, versions=["torch", "transformers", "llama-cpp-python"],
            )  # fmt: skip
        else:
            sides.convert()
        if arguments.only in (None, "quantize"):
            compare(
                Goal("gguf_q4_k_m", f"{QUANT} from the bf16 file {of}", "s", "<= 1"),
                {"ours": sides.quantize, "llama-quantize": sides.llama_quantize},
                rounds=arguments.rounds, versions=["llama-cpp-python"], note=f"{THREADS} threads",
            )  # fmt: skip
        if arguments.only in (None, "all"):
            compare(
                Goal("gguf_quants", f"{', '.join(QUANTS)} from the bf16 file {of}", "s", "<= 1"),
                {"ours": sides.quantize_all, "llama-quantize": sides.llama_quantize_all},
                rounds=arguments.rounds, versions=["llama-cpp-python"],
                note=f"{THREADS} cores: ours side by side with a thread each, llama-quantize one after another",
            )  # fmt: skip


if __name__ == "__main__":
    main()
