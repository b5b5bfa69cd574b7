"""The processes that train one run together, as one of them sees it; without any others, everything here is nothing.

Who is who stands in the variables that torchrun uses as well: RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE.
scripts/train/launch.py sets them, and RENDEZVOUS: where the processes find each other.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from scripts.common.errors import UserError

RENDEZVOUS = "SNAKETUNE_RENDEZVOUS"
PATIENCE = timedelta(hours=2)  # the first process may load, pack or write for long while the others wait


def process_count() -> int:
    """Return how many processes train this run."""
    return int(os.environ["WORLD_SIZE"]) if RENDEZVOUS in os.environ else 1


def process_number() -> int:
    """Return the number of this process; the first is 0."""
    return int(os.environ["RANK"]) if RENDEZVOUS in os.environ else 0


def is_first() -> bool:
    """Tell whether this process writes what is written once."""
    return process_number() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Meet the other processes, each with a GPU of its own where there are GPUs; leave them at the end.

    Raises UserError where there are too few for all.
    """
    import torch

    options = {}
    if torch.cuda.is_available():
        number, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if torch.cuda.device_count() < here:
            raise UserError(
                f"training.processes: {here} processes want a GPU each, and there are {torch.cuda.device_count()}",
                remedy="lower it, or raise the limit on gpu in the profile where there are more",
            )
        torch.cuda.set_device(number)
        options = {"backend": "cpu:gloo,cuda:nccl", "device_id": torch.device("cuda", number)}
    else:
        options = {"backend": "gloo"}
    torch.distributed.init_process_group(
        init_method=os.environ[RENDEZVOUS],
        rank=process_number(),
        world_size=process_count(),
        timeout=PATIENCE,
        **options,
    )
    yield
    torch.distributed.destroy_process_group()


def wait_for_all() -> None:
    """Return when every process has come here."""
    any_process(False)


def any_process(said: bool) -> bool:
    """Return whether any of the processes says so; each has to ask."""
    if process_count() == 1:
        return said
    import torch

    # On the CPU: a question to the GPU would wait for all that it has to do.
    flag = torch.tensor(int(said))
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag)


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let the first process do it alone, and then the others, who find what it made."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()
