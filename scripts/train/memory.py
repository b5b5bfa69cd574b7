"""How much memory a training has used, whether it ran out of it, and how it is given back."""

import resource


def peak_memory_mb() -> int:
    """Return the most memory used so far in MiB: of the GPU where there is one, else of this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error is a lack of memory, of the GPU or of the machine."""
    import torch

    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def free_memory() -> None:
    """Give back what the failed try held."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
