"""The merge of a LoRA into a base beside `cp` of its weight files and peft's own merge.

python -m tests.benchmarks.bench_merge
python -m tests.benchmarks.bench_merge --layers 2 --rounds 1

The base has a billion random weights in bf16 and five files (20 layers); the adapter has rank 16 on all linear layers.
Our step checks the base's hashes, writes those of the result, and flushes it to the disk. The goal leaves that aside,
because peft and `cp` do neither: our seconds are those of the step without hashing the weight files and without
flushing, beside those of the whole step. The tensors of both merges are compared byte by byte. On
CPUs without AVX-512 a few values of a million differ by rounding, and the program ends with the first such tensor.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from scripts.common.files import write_manifest
from scripts.model.safetensors_files import read_entries, weight_files
from scripts.workflow.memory.shapes import Shape
from tests.benchmarks.compare import ROOT, Goal, Ran, compare, run
from tests.support.random_base import tensor_maker, write_random_base

RANK, ALPHA, FILES, MARGIN = 16, 32, 5, 300  # MARGIN: MiB on top of two of the largest tensors
UNHASHED = """
import hashlib, os, sys
from scripts.common.hashing import Hashing
from scripts.train.merge_adapter import main
digest = hashlib.file_digest
def digest_of_other_files(file, name):
    return hashlib.sha256() if os.path.basename(file.name).startswith("model-") else digest(file, name)
Hashing.check, hashlib.file_digest = lambda self, manifest: None, digest_of_other_files
os.fsync = lambda descriptor: None
sys.exit(main())
"""
PEFT = """
import sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, output = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
model.save_pretrained(output, max_shard_size="500MB")
"""


def write_random_adapter(base: Path, folder: Path) -> Path:
    """Write a LoRA with random weights for all linear layers of a base, as peft saves one; return its manifest."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    tensors, make = {}, tensor_maker(seed=1)
    for path in sorted({*weight_files(base.parent).values()}):
        for name, entry in read_entries(path)[0].items():
            if name.endswith("_proj.weight"):
                (rows, columns), module = entry.shape, f"base_model.model.{name.removesuffix('.weight')}"
                tensors[f"{module}.lora_A.weight"] = make(name, (RANK, columns)).float()
                tensors[f"{module}.lora_B.weight"] = make(name, (rows, RANK)).float()
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    config.save_pretrained(folder)
    return write_manifest(folder, base=base.parent.name, method="lora")


def tensors_of(folder: Path):
    """Yield name and bytes of each tensor of a model folder, sorted by name."""
    for name, path in sorted(weight_files(folder).items()):
        entry = read_entries(path)[0][name]
        with open(path, "rb") as file:
            file.seek(entry.start)
            yield name, file.read(entry.end - entry.start)


class Sides:
    """The ways to write the merged weights, each into a folder of its own."""

    def __init__(self, folder: Path, layers: int, hidden: int):
        self.folder = folder
        shape = Shape(32000, hidden, 11 * hidden // 4, layers, hidden // 64, hidden // 256, 64)
        limit = 2 * shape.parameters // FILES + 2 * shape.vocabulary * hidden // 4
        self.base = write_random_base(folder / "base", "llama", shape, 512, shard_bytes=limit)
        self.adapter = write_random_adapter(self.base, folder / "adapter")
        self.weights = sorted(self.base.parent.glob("*.safetensors"))
        entries = [entry for path in self.weights for entry in read_entries(path)[0].values()]
        self.largest = max(entry.end - entry.start for entry in entries) / 2**20
        self.gigabytes = sum(path.stat().st_size for path in self.weights) / 1e9

    def fresh(self, name: str) -> Path:
        """Return a folder's path where nothing is.

        What an earlier round left there is removed just before a side runs, so that all sides write into pages that
        were freed a moment ago: on a virtual machine the first use of a page can take longer than its copy.
        """
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.folder / name

    def ours(self) -> dict[str, float]:
        """Merge by our step."""
        output = self.fresh("ours")
        step = ROOT / "scripts/train/merge_adapter.py"
        words = [step, self.adapter, "--base", self.base, "--output", output, "--log", self.folder / "log"]
        whole = run([sys.executable, *map(str, words)], cwd=ROOT)
        output = self.fresh("unhashed")
        words = ["-c", UNHASHED, *words[1:]]
        words[words.index("--output") + 1] = output
        # Its memory is that of the whole step, because looking at it takes time from a step that uses both cores.
        ran = run([sys.executable, *map(str, words)], 60, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        return self.measured(ran) | {"MiB": whole.mib, "s with hashing and flushing": whole.seconds}

    def copied(self) -> dict[str, float]:
        """Copy the base's weight files with cp."""
        output = self.fresh("copy")
        output.mkdir()
        return self.measured(run(["cp", *map(str, self.weights), str(output)]))

    def peft(self) -> dict[str, float]:
        """Load, merge and save with peft; raises SystemExit if a tensor differs from ours."""
        output = self.fresh("peft")
        ran = run([sys.executable, "-c", PEFT, *map(str, (self.base.parent, self.adapter.parent, output))])
        for (name, ours), (other, theirs) in zip(tensors_of(self.folder / "ours"), tensors_of(output), strict=True):
            if (name, ours) != (other, theirs):
                raise SystemExit(f"{name}: our merged tensor differs from peft's")
        return self.measured(ran)

    @staticmethod
    def measured(ran: Ran) -> dict[str, float]:
        """Return a side's numbers by unit."""
        return {"s": ran.seconds, "CPU s": ran.cpu_seconds, "MiB": ran.mib}


def main(argv=None) -> None:
    """Measure all sides, and keep two records: seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=20, help="of the base; 20 are a billion weights")
    parser.add_argument("--hidden", type=int, default=2048, help="size of the hidden states, a multiple of 256")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-peft", action="store_true", help="only our step and cp")
    parser.add_argument("--folder", type=Path, help="for the models, 6 times their size (default: a temporary one)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="snaketune-merge-") as folder:
        sides = Sides(Path(folder), arguments.layers, arguments.hidden)
        what = f"LoRA merge, {sides.gigabytes:.1f} GB in {len(sides.weights)} files"
        others = {"cp": sides.copied} if arguments.without_peft else {"cp": sides.copied, "peft": sides.peft}
        limit = 2 * sides.largest + MARGIN
        compare(
            [
                Goal("merge", what, "s", "<= 2.5"),
                Goal(
                    "merge_memory",
                    f"{what}: two of the largest tensors and {MARGIN} MiB as limit of memory",
                    "MiB",
                    "<= 1",
                    limit=limit,
                ),
            ],
            {"ours": sides.ours, **others},
            rounds=arguments.rounds,
            versions=["torch", "peft", "transformers"],
            note="our s are of a run that neither hashes nor flushes, as the other sides",
        )


if __name__ == "__main__":
    main()
