"""Apply a function to tasks in several processes, with the results in order and few of them in memory."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from scripts.common.parent_watchdog import die_with_parent

SERIAL = 20_000  # records, and
SERIAL_BYTES = 10 * 2**20  # of raw files; for fewer, starting processes takes longer than it saves
AHEAD = 2  # tasks of each process whose results may wait


def in_order(function: Callable, tasks: Iterable, processes: int) -> Iterator[Any]:
    """Yield the result of each task, computed in so many processes; in this one if it is one."""
    if processes < 2:
        yield from map(function, tasks)
        return
    waiting: deque = deque()
    spawn = multiprocessing.get_context("spawn")  # a forked process could inherit a lock that a thread holds
    pool = ProcessPoolExecutor(processes, spawn, die_with_parent)
    try:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) > AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
