"""Set the number of CPU threads of a step, which decides the order of additions and so the last digits."""

import os
import sys

# Waiting threads look for work a thousand times, which takes some microseconds, and then sleep: those that spin longer
# slow down other jobs on the same cores, and to wake one takes longer than many operations of a training.
OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


def use_threads(count: int) -> None:
    """Set torch to `count` threads and deterministic algorithms, and disable the threads of tokenizers."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if OPENMP.keys().isdisjoint(os.environ):
        os.environ.update(OPENMP)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Kernels that oneDNN and torch keep for batches of other shapes: by default 1024, which are hundreds of MiB.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "16")
    import torch

    torch.set_num_threads(count)
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        return
    # The same without torch's compiler, whose import takes a second.
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads it
    # On a CPU, compiling a loss for each batch shape takes 20 s for 0.2 s of work.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    if "torch._dynamo" in sys.modules:
        torch._dynamo.config.disable = True
