"""Apply a function to tasks in several processes or threads, with the results in order and few of them in memory."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import chain, islice
from typing import Any

from scripts.common.errors import UserError
from scripts.common.parent_watchdog import die_with_parent

# For fewer records, or tasks, starting processes takes longer than it saves; FEW_TO_COUNT is for work of a few
# microseconds a record.
FEW, FEW_TO_COUNT, FEW_TASKS = 20_000, 100_000, 4
AHEAD = 2  # tasks of each process whose results may wait
# A worker makes arrays of a few MiB again and again. glibc would give their memory back and get it anew, page by page.
# So each may keep 64 MiB.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**26)}


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


def results(submit: Callable[[Any], Future], tasks: Iterable, ahead: int) -> Iterator[Any]:
    """Yield the result of each task in order, with so many submitted before the oldest result is asked for."""
    waiting: deque[Future] = deque()
    for task in tasks:
        waiting.append(submit(task))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def in_threads(function: Callable, tasks: Iterable, threads: int) -> Iterator[Any]:
    """Yield the result of each task, in order; for functions that let other threads run, as those of NumPy do."""
    with ThreadPoolExecutor(threads) as pool:
        yield from results(partial(pool.submit, function), tasks, threads - 1)


def in_order(function: Callable, tasks: Iterable, processes: int) -> Iterator[Any]:
    """Yield the result of each task, computed in so many processes; in this one if it is one, or the tasks are few.

    Raises UserError if a process was killed.
    """
    tasks = iter(tasks)
    first = list(islice(tasks, FEW_TASKS)) if processes > 1 else []
    if len(first) < FEW_TASKS:
        yield from map(function, chain(first, tasks))
        return
    for name, size in KEPT_MEMORY.items():
        os.environ.setdefault(name, size)  # read when a process starts, so this one keeps its own
    spawn = multiprocessing.get_context("spawn")  # a forked process could inherit a lock that a thread holds
    pool = ProcessPoolExecutor(processes, spawn, start_worker, (function,))
    try:
        yield from results(partial(pool.submit, call), chain(first, tasks), AHEAD * processes)
    except BrokenProcessPool:
        remedy = "use a machine with more memory, or free some, and run the same command again"
        raise UserError("a process of this step was killed, probably for lack of memory", remedy=remedy) from None
    finally:
        pool.shutdown(cancel_futures=True)
