"""The fast simulator: sums of weights over bit vectors, the same bits as `snnc.semantics`.

Every neuron, sample and step is one bit. Samples are processed in chunks, layer by layer
over all steps; what a layer emits is kept while a later one reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import numpy as np

from snnc.errors import InvalidSetting, MissingDependency
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.simulate.fast_counts import FanOuts, fan_outs
from snnc.simulate.fast_emitted import step_bytes
from snnc.simulate.fast_plan import Plain, Plan, plan
from snnc.simulate.fast_run import Bytes, Run
from snnc.simulate.fast_work import Work, processors
from snnc.simulate.trace import Trace, concatenate

PAGE = 1 << 21  # bytes of a large page


def run(program: Program, codes: IntArray, *, raster: bool, counts: bool = True) -> Trace:
    """Run a program on encoded images (samples, *shape); keep the spikes if `raster`.

    Without `counts` the trace holds logits and predictions, no layers and no synapses:
    counting what was delivered takes as long as a very sparse network itself.

    Raises:
        MissingDependency: numba is not installed.
        InvalidSetting: `raster` without `counts`.
    """
    return prepare(program, len(codes)).run(codes, raster=raster, counts=counts)


def prepare(program: Program, samples: int) -> Prepared:
    """Decide how to run a program, best for `samples` at once, right for any number.

    Raises:
        MissingDependency: numba is not installed.
    """
    try:
        from snnc.simulate import kernels, kernels_schedule
    except ImportError as error:
        raise MissingDependency(
            "the fast simulator needs numba; install it with: pip install 'snnc[fast]', or use "
            "the numpy simulator (--engine numpy)"
        ) from error
    size = step_bytes(samples)
    with ThreadPoolExecutor(processors()) as threads:
        share = Work(kernels=kernels, threads=threads).share
        plans = {
            layer.name: plan(program, layer, program.steps * size, share, kernels_schedule)
            for layer in program.layers
        }
    return Prepared(program=program, kernels=kernels, plans=plans, size=size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A program ready to run many times; its plans take about as much memory as its weights."""

    program: Program
    kernels: ModuleType
    plans: Mapping[str, Plan]
    size: int  # bytes that hold the samples of a step

    def run(self, codes: IntArray, *, raster: bool, counts: bool = True) -> Trace:
        """Run on encoded images (samples, *shape), see `run`."""
        if raster and not counts:
            raise InvalidSetting("the raster is part of the counts; ask for both or for neither")
        chunk = self.size * 8
        leaving = self._fan_outs if counts else {}
        space = _space(self.plans.values())
        with ThreadPoolExecutor(processors()) as threads:
            work = Work(kernels=self.kernels, threads=threads)
            traces = [
                Run(
                    work=work,
                    program=self.program,
                    codes=codes[i : i + chunk],
                    size=self.size,
                    space=space,
                    leaving=leaving,
                ).trace(self.plans, raster, counts)
                for i in range(0, max(len(codes), 1), chunk)
            ]
        return concatenate(traces)

    @cached_property
    def _fan_outs(self) -> FanOuts:
        return fan_outs(self.program)


def _space(plans: Iterable[Plan]) -> Bytes:
    """Return memory for what any layer reads, on large pages where the system has them."""
    most = max((p.wiring.memory for p in plans if not isinstance(p, Plain)), default=0)
    pages = -(-most // PAGE) + 1
    space = np.empty(max(pages, 2) * PAGE, dtype=np.uint8)
    start = -space.ctypes.data % PAGE
    return space[start : start + most]
