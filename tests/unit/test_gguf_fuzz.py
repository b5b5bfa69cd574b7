"""A hundred thousand spoilt GGUF files: each is refused with a line or read, soon; llama.cpp survives those that pass.

The files are the same in every run. A crash names its file, which stays in the test's folder.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest

from scripts.common.errors import UserError
from scripts.common.gguf_header import checked_header
from tests.support.gguf_maker import Made, all_made, language_model
from tests.support.gguf_mutations import Mutator

ROOT = Path(__file__).resolve().parents[2]
COUNT, SEED = 100_000, 4
NATIVE = 2_000  # of the files that pass, so many are opened in llama.cpp
LONGEST = 2.0  # seconds for a file of 140 KB; a loop whose length the file says would take far longer


class Victim:
    """A process that opens files in llama.cpp, and is started anew when one killed it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.model = folder / "model.gguf"
        self.model.write_bytes(language_model("mistral3").encoded())
        self.process = None

    def answer(self, path: Path) -> str | None:
        """Return what the process says of a file; None when it died."""
        if self.process is None:
            command = [sys.executable, "-m", "tests.support.gguf_victim", str(self.model)]
            # Without the variable ggml starts a debugger to print where it ended, which takes seconds.
            surroundings = {**os.environ, "GGML_NO_BACKTRACE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            with open(self.folder / "stderr.txt", "w", encoding="utf-8") as errors:
                self.process = subprocess.Popen(command, **pipes, stderr=errors, env=surroundings, cwd=ROOT)
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline().strip()
        if not said:
            self.end()
        return said or None

    def end(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def victim(tmp_path):
    made = Victim(tmp_path)
    yield made
    made.end()


def killers(victim: Victim, files: Iterable[bytes]) -> list[str]:
    """Return the files that killed llama.cpp."""
    found = []
    for number, content in enumerate(files):
        path = victim.folder / "case.gguf"
        path.write_bytes(content)
        if victim.answer(path) is None:
            found.append(str(path.rename(path.with_name(f"killer-{number}.gguf"))))
    return found


def passes(content: bytes) -> bool:
    """Say whether the check lets a file pass; any error but a UserError is a failure of the test."""
    try:
        checked_header(content, "spoilt.gguf")
    except UserError:
        return False
    return True


def test_a_hundred_thousand_spoilt_files_are_read_or_refused_and_those_that_pass_harm_nothing(victim):
    passed, kept, slowest = 0, [], 0.0
    for content in islice(Mutator(all_made(), SEED).files(), COUNT):
        begun = time.process_time()
        if passes(content):
            passed += 1
            if len(kept) < NATIVE:
                kept.append(content)
        slowest = max(slowest, time.process_time() - begun)
    assert slowest < LONGEST
    assert COUNT // 50 < passed < COUNT // 2, "the files are spoilt too little, or too much, to find anything"
    assert len(kept) == NATIVE
    assert killers(victim, kept) == []


def test_sound_files_of_each_kind_work(victim, tmp_path):
    path = tmp_path / "sound.gguf"
    for name, made in all_made().items():
        path.write_bytes(made.encoded())
        assert victim.answer(path) == "fine", name
    path.write_bytes(language_model().encoded()[:-1])
    assert victim.answer(path).startswith("refused: ")


def without_attention() -> Made:
    made = language_model("phi3")
    made.tensors = [tensor for tensor in made.tensors if "attn_qkv" not in tensor.name]
    return made


def with_token_twice() -> Made:
    made = language_model()
    made.entry("tokenizer.ggml.tokens").value[-1] = "a"
    return made


KILLERS = {
    "too many blocks": lambda: language_model().with_values(llama__block_count=513),
    "unknown scaling": lambda: language_model().with_values(llama__rope__scaling__type="x"),
    "a token twice": with_token_twice,
    "no attention": without_attention,
}


@pytest.mark.parametrize("name", KILLERS)
def test_the_check_is_needed_for_llama_cpp_dies_of_what_it_refuses(name: str, tmp_path):
    path = tmp_path / "killer.gguf"
    path.write_bytes(KILLERS[name]().encoded())
    assert not passes(path.read_bytes())
    unchecked = "import llama_cpp, sys; llama_cpp.Llama(sys.argv[1], n_ctx=16, n_threads=1, verbose=False)"
    surroundings = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    done = subprocess.run([sys.executable, "-c", unchecked, str(path)], env=surroundings, check=False)
    assert done.returncode < 0, "no signal ended it"


def test_memory_does_not_follow_what_a_file_announces():
    """A head of some bytes that announces a billion of everything is refused within little memory."""
    script = (
        "from scripts.train.memory import peak_resident_mb; from tests.support.gguf_maker import all_made;"
        "from tests.support.gguf_mutations import Mutator; from tests.unit.test_gguf_fuzz import passes;"
        "files = Mutator(all_made(), 5).files(); [passes(next(files)) for _ in range(3000)];"
        "print(peak_resident_mb())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(done.stdout) < 1024
