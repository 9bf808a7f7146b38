"""Kernels and the threads that share their jobs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Event
from types import ModuleType
from typing import TypeVar

PIECES = 4  # of a kernel's jobs for each thread, so that none waits long for another
T = TypeVar("T")


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """The kernels and the threads that share them."""

    kernels: ModuleType
    threads: ThreadPoolExecutor
    number: int  # of threads that share a kernel; 1 is the caller's
    stopped: Event = field(default_factory=Event)  # nobody waits for the rest

    def share(self, kernel: Callable[..., None], jobs: int, *arguments: object) -> None:
        """Do jobs 0 to `jobs` of a kernel, some in each thread.

        Raises:
            CancelledError: another thread failed, or was interrupted.
        """
        if self.stopped.is_set():
            raise CancelledError
        if self.number == 1:
            kernel(0, jobs, *arguments)
            return
        parts = min(PIECES * self.number, jobs)
        ends = [jobs * part // parts for part in range(parts + 1)] if jobs else [0]
        pieces = deque(zip(ends, ends[1:], strict=False))

        def help_out() -> None:
            while True:
                try:
                    first, last = pieces.popleft()
                except IndexError:  # none is left
                    return
                kernel(first, last, *arguments)

        helpers = [self.threads.submit(help_out) for _ in range(min(self.number, parts) - 1)]
        help_out()
        for each in helpers:
            each.result()

    def each(self, task: Callable[[Work, int], T]) -> list[T]:
        """Do task(work, n) in thread n, with kernels that it does not share; return the results."""
        alone = replace(self, number=1)
        started = [self.threads.submit(task, alone, thread) for thread in range(self.number)]
        try:
            return [each.result() for each in started]
        except BaseException:
            self.stopped.set()
            raise
