"""Runs on all cores: jobs go to processes of their own, results come back in the order of the jobs.

Only a few jobs are under way at a time, so that whoever has seen enough stops and little was in vain. Workers leave Ctrl-C to
the process that began them, and a worker that dies is an error, not a wait for ever.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")

AHEAD = 4
"""Jobs a worker that are under way or done and not yet looked at: one slow job leaves no worker idle."""


class Workers:
    """Some processes, or, for one, this process itself."""

    def __init__(self, pool: ProcessPoolExecutor | None, count: int) -> None:
        self._pool = pool
        self.count = count

    def map(self, work: Callable[[J], R], jobs: Iterable[J], *, ahead: int = AHEAD) -> Iterator[R]:
        """``work`` of each job, in order. ``work`` and the jobs are pickled: functions of a module, no closures.

        Whoever stops early leaves ``ahead`` jobs a worker behind, which end in vain before those of the next ``map`` begin.
        """
        if self._pool is None:
            yield from map(work, jobs)
            return
        waiting = iter(jobs)
        under_way: deque[Future[R]] = deque(self._pool.submit(work, job) for job in islice(waiting, ahead * self.count))
        while under_way:
            result = under_way.popleft().result()
            under_way.extend(self._pool.submit(work, job) for job in islice(waiting, 1))
            yield result


@contextmanager
def workers(count: int | None = None) -> Iterator[Workers]:
    """``count`` processes (as many as there are cores), ended with the block, whatever they do."""
    count = count or len(os.sched_getaffinity(0))
    if count == 1:
        yield Workers(None, 1)
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield Workers(pool, count)
    finally:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        pool.shutdown()
