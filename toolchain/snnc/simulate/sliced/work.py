"""Kernels and the threads that share their jobs."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType

PIECES = 4  # of a kernel's jobs for each thread, so that none waits long for another


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

    def share(self, kernel: Callable[..., None], jobs: int, *arguments: object) -> None:
        """Do jobs 0 to `jobs` of a kernel, some in each thread."""
        number = processors()
        if number == 1:
            kernel(0, jobs, *arguments)
            return
        parts = min(PIECES * number, jobs)
        ends = [jobs * part // parts for part in range(parts + 1)] if jobs else [0]
        started = [
            self.threads.submit(kernel, first, last, *arguments)
            for first, last in zip(ends, ends[1:], strict=False)
        ]
        for each in started:
            each.result()
