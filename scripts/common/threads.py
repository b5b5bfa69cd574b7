"""How many CPU threads a step computes with: the order of additions, and so the last digits, depend on it."""

import os
import sys


def use_threads(count: int) -> None:
    """Make torch compute with `count` threads, deterministically, and keep tokenizers from starting their own."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Threads that wait for each other sleep: spinning ones slow down the jobs that share their cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    if not torch.cuda.is_available():
        # On a CPU, TRL's loss kernel is compiled anew for each shape of batch: 20 s a shape for 0.2 s of work.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        if "torch._dynamo" in sys.modules:
            torch._dynamo.config.disable = True
        # Disabled it does nothing, but its first call, which is bitsandbytes' when peft is imported, takes 3 s.
        if os.environ["TORCHDYNAMO_DISABLE"] == "1":
            torch.compile = uncompiled
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True, warn_only=True)


def uncompiled(model=None, **options):
    """Stand in for `torch.compile`, as a function or a decorator: return what would be compiled."""
    return (lambda function: function) if model is None else model
