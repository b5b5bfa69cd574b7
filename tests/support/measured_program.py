"""Run a program as it runs alone, and write down the most that it took of the GPU.

python -m tests.support.measured_program taken.json scripts/train/train_model.py ...

The JSON file holds bytes: `allocated` and `reserved` at their peaks, and `taken`, which is `reserved` and what lies
beside PyTorch's allocator (CUDA's context, its libraries, other programs); it is empty without a GPU.
"""

import json
import runpy
import sys
from pathlib import Path


def gpu_memory() -> dict[str, int]:
    """Return the most that this process took of the first GPU so far, in bytes; {} when it has not used one."""
    import torch

    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    reserved = torch.cuda.max_memory_reserved()
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": reserved,
        "taken": total - free - torch.cuda.memory_reserved() + reserved,
    }


def main() -> None:
    """Run the command line; the exit status is the program's."""
    output, script, *words = sys.argv[1:]
    sys.argv = [script, *words]
    sys.path.append(str(Path(script).parent))  # a peer's program imports what is beside it
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        Path(output).write_text(json.dumps(gpu_memory()), encoding="utf-8")


if __name__ == "__main__":
    main()
