"""Ten thousand damaged GGUF files: each is read or refused with one line, within bounded time and memory.

Those that are read are tried in llama.cpp by the check, in its child process. Of those that pass, few kill llama.cpp in
use, for the check computes nothing. The files are the same in every run.
"""

import contextlib
import faulthandler
import os
import resource
import time
from itertools import islice

import pytest

from scripts.common.errors import UserError
from scripts.gguf.check import check_gguf
from scripts.gguf.llama import chat_text, open_gguf, token_ids
from scripts.gguf.reader import read_gguf
from tests.support.gguf_maker import all_made
from tests.support.gguf_mutations import Mutator

COUNT, SEED = 10_000, 4
NATIVE = 150  # of the files that can be read, so many are tried in llama.cpp
LONGEST = 60.0  # seconds of CPU for a file of 140 KB: a loop as long as the file announces takes hours
LONGEST_USE = 20  # seconds of CPU for a few tokens of a model of 70,000 weights
MEMORY = 8 * 2**30


def reads(path) -> bool:
    """Tell whether a file is read and not refused; any other error is a failure of the test."""
    try:
        read_gguf(path)
    except UserError:
        return False
    return True


def use(path) -> None:
    """Load a model, make tokens, render, and compute two of them."""
    with open_gguf(path, context=16, threads=1) as model:
        with contextlib.suppress(UserError):
            chat_text(model, [{"role": "user", "content": "ab"}])
        for text in ("ab a", "été 🙂\n\0<s>[INST]", ""):
            model.detokenize(token_ids(model, text), special=True)
        model.eval(token_ids(model, "ab 🙂")[:12] or [0])
        model.eval([model.sample(temp=0.0)])


def kills(path) -> bool:
    """Tell whether a process that uses a file dies of it, or does not end."""
    if not (child := os.fork()):
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_USE, LONGEST_USE))
        with contextlib.suppress(UserError, Exception):
            use(path)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.fixture
def bounded_memory():
    """Give this process so much address space and no more; a list as long as a file announces is larger."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_damaged_files_are_read_or_refused_and_few_that_pass_the_check_kill_llama_cpp(
    tmp_path, bounded_memory, monkeypatch
):
    monkeypatch.setenv("GGML_NO_BACKTRACE", "1")
    path, readable, loaded, killers = tmp_path / "case.gguf", 0, 0, 0
    for content in islice(Mutator(all_made(), SEED).files(), COUNT):
        path.write_bytes(content)
        begun = time.process_time()
        is_read = reads(path)
        assert time.process_time() - begun < LONGEST
        readable += is_read
        if not is_read or readable > NATIVE:
            continue
        with contextlib.suppress(UserError):
            check_gguf(path)
            loaded += 1
            killers += kills(path)
    assert COUNT // 50 < readable < COUNT * 2 // 3, "the files are damaged too little, or too much, to find anything"
    assert NATIVE // 20 < loaded < NATIVE
    assert killers <= loaded // 10
