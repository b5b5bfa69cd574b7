"""Try a GGUF file in llama.cpp in a child process, before a step opens it.

llama.cpp aborts, or reads out of bounds, on unexpected content of a file. The child process loads everything but the
weights, tokenizes and builds the graph. If llama.cpp crashes, only the child process ends, and the step reports it in
one line. The check takes less than a second for any size of model.

    python -m scripts.gguf.check model.gguf
"""

import functools
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.parent_watchdog import die_with_parent
from scripts.gguf.reader import GgufFile, read_gguf

PROJECTOR = "clip"  # the architecture of mmproj files, which llama.cpp opens only together with a model
LIMITS = {resource.RLIMIT_CPU: 120, resource.RLIMIT_AS: 16 * 2**30, resource.RLIMIT_CORE: 0}  # seconds, bytes, bytes
SECONDS = 600  # timeout, for a file on a slow or lost disk
TEXT = bytes(range(256))


def check_gguf(path: Path | str) -> GgufFile:
    """Return the header of a GGUF file after llama.cpp has opened it in a child process.

    Raises UserError for a file that is invalid, or that llama.cpp can't load. A file is tried once per process.
    """
    file = read_gguf(path)
    status = os.stat(path)
    if file.architecture != PROJECTOR:
        try_in_child(os.path.abspath(path), status.st_ino, status.st_size, status.st_mtime_ns)
    return file


@functools.cache
def try_in_child(path: str, *_state: int) -> None:
    """Open a file in a child process; raises UserError if that fails. `_state` is part of the cache key."""
    # No backtrace: ggml would start a debugger for it. No GPU: it is reserved for the step.
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "scripts.gguf.check", path]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, preexec_fn=die_with_parent, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"llama.cpp has not loaded it within {SECONDS} s", path) from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace")
        sys.stderr.write(said)
        died = f" ({signal.Signals(-done.returncode).name})" if done.returncode < 0 else ""
        raise UserError(f"llama.cpp can't load it{died}: {fault_lines(said)[0]}", path)


def fault_lines(said: str) -> list[str]:
    """Return the error lines of llama.cpp's log, else the last line; the hidden GPU is not an error."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("ggml_cuda_init")]
    faults = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
    return faults or lines[-1:] or ["no reason given"]


def main(path: str) -> int:
    """Open a file without its weights; return the exit status."""
    import llama_cpp

    # Read before the limits are set, because this maps the whole file. llama.cpp's test vocabularies have no weights.
    has_weights = bool(read_gguf(path).tensors)
    for kind, most in LIMITS.items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    options = llama_cpp.llama_model_default_params()
    options.vocab_only, options.no_alloc = not has_weights, has_weights
    options.load_mode, options.n_gpu_layers = llama_cpp.LLAMA_LOAD_MODE_NONE, 0
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), options)
    if not model:
        return 1
    ids = (llama_cpp.llama_token * (2 * len(TEXT)))()
    llama_cpp.llama_tokenize(llama_cpp.llama_model_get_vocab(model), TEXT, len(TEXT), ids, len(ids), False, True)
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_threads = 16, 1
    return 0 if not has_weights or llama_cpp.llama_init_from_model(model, settings) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
