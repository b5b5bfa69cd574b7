"""Apply a function to tasks in several processes, with the results in order and few of them in memory."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any

from scripts.common.errors import UserError
from scripts.common.parent_watchdog import die_with_parent

# For fewer records, or tasks, starting processes takes longer than it saves; FEW_TO_COUNT is for work of a few
# microseconds a record.
FEW, FEW_TO_COUNT, FEW_TASKS = 20_000, 100_000, 4
AHEAD = 2  # tasks of each process whose results may wait


function_of_worker: Callable | None = None


def start_worker(function: Callable) -> None:
    """Prepare a process, which gets the function once: it ends with the step, which alone handles Ctrl-C."""
    global function_of_worker
    function_of_worker = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def call(task: Any) -> Any:
    """Return the result of a task in a worker."""
    return function_of_worker(task)


def in_order(function: Callable, tasks: Iterable, processes: int) -> Iterator[Any]:
    """Yield the result of each task, computed in so many processes; in this one if it is one, or the tasks are few.

    Raises UserError if a process was killed.
    """
    tasks = iter(tasks)
    first = list(islice(tasks, FEW_TASKS)) if processes > 1 else []
    if len(first) < FEW_TASKS:
        yield from map(function, chain(first, tasks))
        return
    waiting: deque = deque()
    spawn = multiprocessing.get_context("spawn")  # a forked process could inherit a lock that a thread holds
    pool = ProcessPoolExecutor(processes, spawn, start_worker, (function,))
    try:
        for task in chain(first, tasks):
            waiting.append(pool.submit(call, task))
            if len(waiting) > AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        remedy = "use a machine with more memory, or free some, and run the same command again"
        raise UserError("a process of this step was killed, probably for lack of memory", remedy=remedy) from None
    finally:
        pool.shutdown(cancel_futures=True)
