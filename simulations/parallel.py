"""Runs on all cores: jobs go to processes of their own, results come back in the order of the jobs.

Only a few jobs are under way at a time, so that whoever has seen enough stops and little was in vain. A worker that dies is an error,
not a wait for ever.

Ctrl-C is the business of the process that began the workers, and there it is only noted: a KeyboardInterrupt in the middle of the
pool's own code leaves its locks held, and the pool's threads, which end it, wait for them for ever. ``map`` raises it where nothing is
held. A second Ctrl-C is raised at once, unless that is in the pool's code: from there the first one is about to be raised anyway.

A terminal's Ctrl-C goes to the workers, too, and would end one that is just starting, which looks like one that died: they are begun with
SIGINT blocked.

A process that is killed can end nobody: its workers watch it, and end with it.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from types import FrameType
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")

AHEAD = 4
"""Jobs a worker that are under way or done and not yet looked at: one slow job leaves no worker idle."""


LOOK_S = 0.2
"""How often a wait for a result is left to look whether Ctrl-C was pressed."""


class _Interrupt:
    """Ctrl-C, noted."""

    def __init__(self) -> None:
        self.noted = False
        self.in_pool = False

    def note(self, signum: int, frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        if self.noted and not self.in_pool:
            raise KeyboardInterrupt
        self.noted = True

    def look(self) -> None:
        """Raise KeyboardInterrupt if there was one."""
        if self.noted:
            raise KeyboardInterrupt

    @contextmanager
    def kept_out(self) -> Iterator[None]:
        """Around the pool's own code: a second one is not raised there."""
        self.in_pool = True
        try:
            yield
        finally:
            self.in_pool = False


class Workers:
    """Some processes, or, for one, this process itself."""

    def __init__(self, pool: ProcessPoolExecutor | None, count: int, interrupt: _Interrupt | None = None) -> None:
        self._pool = pool
        self.count = count
        self._interrupt = interrupt or _Interrupt()

    def map(self, work: Callable[[J], R], jobs: Iterable[J], *, ahead: int = AHEAD) -> Iterator[R]:
        """``work`` of each job, in order. ``work`` and the jobs are pickled: functions of a module, no closures.

        Whoever stops early leaves ``ahead`` jobs a worker behind, which end in vain before those of the next ``map`` begin. Raises
        KeyboardInterrupt after Ctrl-C, between two results or while it waits for one.
        """
        if self._pool is None:
            yield from map(work, jobs)
            return
        waiting = iter(jobs)
        with self._interrupt.kept_out():
            under_way = deque(_submit(self._pool, work, job) for job in islice(waiting, ahead * self.count))
        while under_way:
            with self._interrupt.kept_out():
                self._interrupt.look()
                while not wait([under_way[0]], LOOK_S).done:
                    self._interrupt.look()
                result = under_way.popleft().result()
                under_way.extend(_submit(self._pool, work, job) for job in islice(waiting, 1))
            yield result


def _submit(pool: ProcessPoolExecutor, work: Callable[[J], R], job: J) -> Future[R]:
    """Hand a job over. This may start a worker, which inherits that SIGINT is blocked: it is the business of this process alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(work, job)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """In a worker: end with the process that began it, however that one ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def workers(count: int | None = None) -> Iterator[Workers]:
    """``count`` processes (as many as there are cores), ended with the block, whatever they do."""
    count = count or len(os.sched_getaffinity(0))
    if count == 1:
        yield Workers(None, 1)
        return
    resource_tracker.ensure_running()  # while it starts it would unblock SIGINT, and the worker that needs it first would hear of it
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    interrupt = _Interrupt()
    handled = signal.signal(signal.SIGINT, interrupt.note)
    try:
        yield Workers(pool, count, interrupt)
    finally:
        with interrupt.kept_out():
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            pool.shutdown()
        signal.signal(signal.SIGINT, handled)
    interrupt.look()  # it came after the last result
