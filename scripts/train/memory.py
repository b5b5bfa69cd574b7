"""How much memory a training has used."""

import resource


def peak_memory_mb() -> int:
    """Return the most memory used so far in MiB: of the GPU where there is one, else of this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
