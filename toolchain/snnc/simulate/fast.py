"""The fast simulator: sums of weights over bit vectors, the same bits as `snnc.semantics`.

Every neuron, sample and step is one bit. Samples are processed in chunks, layer by layer
over all steps; what a layer emits is kept while a later one reads it. Where there are as many
chunks as threads each has chunks of its own, else they share every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import numpy as np

from snnc.errors import InvalidSetting, MissingDependency
from snnc.ir.program import Layer, Program
from snnc.ir.weights import IntArray
from snnc.semantics.encode import check_codes
from snnc.simulate.sliced.counts import FanOuts, fan_outs
from snnc.simulate.sliced.emitted import step_bytes
from snnc.simulate.sliced.plan import MOST_BYTES, Plan, memory, parts, plan
from snnc.simulate.sliced.run import Bytes, Planned, Run
from snnc.simulate.sliced.work import Work, processors
from snnc.simulate.trace import Trace, concatenate

PAGE = 1 << 21  # bytes of a large page
TOGETHER = 1 << 31  # bytes that layers of all threads may read at once, a chunk in each


def run(program: Program, codes: IntArray, *, raster: bool, counts: bool = True) -> Trace:
    """Run a program on encoded images (samples, *shape); keep the spikes if `raster`.

    Without `counts` the trace holds logits and predictions, no layers and no synapses:
    counting what was delivered takes as long as a very sparse network itself. Samples that
    fit a chunk need no plan for more than a part of a layer at once.

    Raises:
        MissingDependency: numba is not installed.
        InvalidSetting: `raster` without `counts`, or a code that no image becomes.
    """
    check_codes(program.input, codes)
    size = step_bytes(len(codes))
    if len(codes) > 8 * size:
        return prepare(program, len(codes)).run(codes, raster=raster, counts=counts)
    with _planner(program, size) as (work, planned):

        def by_parts(layer: Layer) -> Iterator[Plan]:
            return map(planned, parts(layer))

        leaving = fan_outs(program) if counts else None
        return _run(work, program, by_parts, codes, size, raster=raster, leaving=leaving)


def prepare(program: Program, samples: int) -> Prepared:
    """Decide how to run a program, best for `samples` at once, right for any number.

    Raises:
        MissingDependency: numba is not installed.
    """
    size = step_bytes(samples)
    with _planner(program, size) as (work, planned):
        plans = {layer.name: planned(layer) for layer in program.layers}
    return Prepared(program=program, kernels=work.kernels, plans=plans, size=size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A program ready to run many times; its plans take up to twice the memory of its weights."""

    program: Program
    kernels: ModuleType
    plans: Mapping[str, Plan]
    size: int  # bytes that hold the samples of a step

    def run(self, codes: IntArray, *, raster: bool, counts: bool = True) -> Trace:
        """Run on encoded images (samples, *shape), see `run`."""
        check_codes(self.program.input, codes)
        with _threads(self.kernels) as work:
            return _run(
                work,
                self.program,
                lambda layer: iter([self.plans[layer.name]]),
                codes,
                self.size,
                raster=raster,
                leaving=self._fan_outs if counts else None,
            )

    @cached_property
    def _fan_outs(self) -> FanOuts:
        return fan_outs(self.program)


@contextmanager
def _planner(program: Program, size: int) -> Iterator[tuple[Work, Callable[[Layer], Plan]]]:
    """Yield the means to plan and to run layers."""
    try:
        from snnc.simulate.kernels import blocks, schedule
    except ImportError as error:
        raise MissingDependency(
            "the fast simulator needs numba; install it with: pip install 'snnc[fast]', or use "
            "the numpy simulator (--engine numpy)"
        ) from error
    with _threads(blocks) as work:
        pixel = program.steps * size
        yield work, lambda layer: plan(program, layer, pixel, work.share, schedule)


@contextmanager
def _threads(kernels: ModuleType) -> Iterator[Work]:
    number = processors()
    with ThreadPoolExecutor(number) as threads:
        yield Work(kernels=kernels, threads=threads, number=number)


def _run(
    work: Work,
    program: Program,
    planned: Planned,
    codes: IntArray,
    size: int,
    *,
    raster: bool,
    leaving: FanOuts | None,
) -> Trace:
    """Run a program, chunk by chunk; count what `leaving` is given for."""
    if raster and leaving is None:
        raise InvalidSetting("the raster is part of the counts; ask for both or for neither")
    chunks = [codes[i : i + size * 8] for i in range(0, max(len(codes), 1), size * 8)]

    most = _most_read(program, program.steps * size)

    def traces(work: Work, chunks: Sequence[IntArray]) -> list[Trace]:
        space = _space(most)
        return [
            Run(
                work=work,
                program=program,
                codes=chunk,
                size=size,
                space=space,
                leaving=leaving or {},
            ).trace(planned, raster, leaving is not None)
            for chunk in chunks
        ]

    together = work.number if work.number * most <= TOGETHER else len(chunks) + 1
    apart = len(chunks) // together * together  # chunks that a thread has for itself
    found: list[Trace] = []
    if apart:
        own = work.each(lambda alone, n: traces(alone, chunks[n : apart : work.number]))
        found += [trace for turn in zip(*own, strict=True) for trace in turn]
    if chunks[apart:]:
        found += traces(work, chunks[apart:])
    return concatenate(found)


def _most_read(program: Program, pixel: int) -> int:
    """Return the bytes of what any layer reads, of those that do not read integers."""
    needs = (memory(program, layer, pixel) for layer in program.layers)
    return max((need for need in needs if need <= MOST_BYTES), default=0)


def _space(size: int) -> Bytes:
    """Return memory for what a layer reads, on large pages where the system has them."""
    pages = -(-size // PAGE) + 1
    space = np.empty(max(pages, 2) * PAGE, dtype=np.uint8)
    start = -space.ctypes.data % PAGE
    return space[start : start + size]
