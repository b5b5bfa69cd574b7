"""One of several processes that train a run: joins the process group, trains, and writes the result to a folder.

accelerate's `PartialState` has the rank. scripts/train/launch.py starts the processes, with torchrun's variables (RANK,
WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE) and the rendezvous address in RENDEZVOUS.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.common.threads import use_threads
from scripts.train.launch import RENDEZVOUS, RESULT, note_failure
from scripts.train.memory import out_of_memory

TIMEOUT = timedelta(hours=2)  # the others wait while the main process loads, packs or writes


@contextmanager
def process_group() -> Iterator[None]:
    """Join the process group, with one GPU per process if there are GPUs; leave it at the end.

    Raises UserError if there are too few GPUs.
    """
    import torch

    options = {"backend": "gloo"}
    if torch.cuda.is_available():
        number, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if torch.cuda.device_count() < here:
            raise UserError(
                f"training.processes: {here} processes need a GPU each, but there are {torch.cuda.device_count()}",
                remedy="lower it, or raise the limit on gpu in the profile where there are more",
            )
        torch.cuda.set_device(number)
        options = {"backend": "cpu:gloo,cuda:nccl", "device_id": torch.device("cuda", number)}
    torch.distributed.init_process_group(
        init_method=os.environ[RENDEZVOUS],
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=TIMEOUT,
        **options,
    )
    yield
    torch.distributed.destroy_process_group()


def any_process(answer: bool) -> bool:
    """Return whether the value of any process is true; every process must call this."""
    import torch

    if not torch.distributed.is_initialized():
        return answer
    # On the CPU: a reduction on the GPU would wait for all queued work.
    flag = torch.tensor(int(answer))
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag)


def work(arguments, train: Callable[[], tuple[list[dict], dict]]) -> None:
    """Train with the other processes; the main process writes the result, a process that fails writes why.

    A process that failed exits at once: a normal exit would wait for the others, which wait for it.
    """
    use_threads(arguments.threads)
    try:
        with process_group():
            curve, facts = train()
            if os.environ["RANK"] == "0":
                write_json(arguments.exchange / RESULT, {"curve": curve, "facts": facts})
    except Exception as error:
        number = int(os.environ["RANK"])
        if isinstance(error, UserError):
            log.error("process %d: %s", number, error)
            note_failure(arguments.exchange, number, "user", str(error))
        else:
            log.exception("process %d failed", number)
            kind = "memory" if out_of_memory(error) else "fault"
            note_failure(arguments.exchange, number, kind, f"process {number}: {type(error).__name__}: {error}")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
