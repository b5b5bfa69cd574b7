"""What a step imports costs little: no garbage collection meanwhile, and no torch where only a tokenizer is loaded."""

import subprocess
import sys

from scripts.common.base_model import load_tokenizer
from tests.support.project import ROOT

STEP = """
import gc
from scripts.common.cli import run_step, step_parser
from scripts.common.garbage import RARELY, USUAL, collect_as_usual

class Cycle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("collected")

def step(arguments):
    print(gc.get_threshold() == RARELY)
    collect_as_usual()
    print(gc.get_threshold() == USUAL, gc.get_freeze_count() > 1000)
    Cycle()
    gc.collect()
    Cycle()

run_step(step, step_parser(""), [])
"""
TOKENIZER = """
import sys
from pathlib import Path
from scripts.common.base_model import leave_torch_out, load_tokenizer

manifest = Path(sys.argv[1])
leave_torch_out(manifest)
print(load_tokenizer(manifest)(sys.argv[2])["input_ids"], sys.modules["torch"])
"""


def output_of(program: str, *words: str) -> list[str]:
    """Return the lines that a program prints to standard output and standard error."""
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout.splitlines()


def test_a_step_collects_garbage_rarely_until_a_model_is_loaded_and_not_when_it_ends():
    assert output_of(STEP) == ["True", "True True", "collected"]


def test_a_tokenizer_without_torch_gives_the_same_ids_and_no_warning(tiny_base):
    text = "Été 1998 : but à la 45e+2 ! 👏"
    assert output_of(TOKENIZER, str(tiny_base), text) == [f"{load_tokenizer(tiny_base)(text)['input_ids']} None"]
