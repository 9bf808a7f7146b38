"""Run many samples a batch at a time, so that memory stays bounded and progress shows."""

from __future__ import annotations

from collections.abc import Callable

from snnc.errors import InvalidSetting
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.simulate.trace import Trace, concatenate
from snnc.targets.api import Progress

NEURON_STEPS = 1 << 22  # of one batch: unrolled for a 3 x 3 convolution they fill 300 MB


def batch_size(program: Program) -> int:
    """Return how many samples fit into memory at once, with room to spare."""
    sizes = sum(population.size for population in program.populations)
    return max(1, NEURON_STEPS // (program.steps * sizes))


def in_batches(
    run: Callable[[IntArray, Progress], Trace],
    codes: IntArray,
    size: int,
    progress: Progress | None,
) -> Trace:
    """Run codes (samples, *shape), `size` samples at a time, as one trace.

    `run` gets the codes of a batch and reports progress within it. Samples are independent,
    so the size changes no result.

    Raises:
        InvalidSetting: there is no sample.
    """
    if not len(codes):
        raise InvalidSetting("there is no sample to run; pass at least one image")
    report = progress if progress is not None else _ignore
    traces = []
    for first in range(0, len(codes), size):

        def within(done: int, _: int, first: int = first) -> None:
            report(first + done, len(codes))

        batch = codes[first : first + size]
        traces.append(run(batch, within))
        report(first + len(batch), len(codes))
    return concatenate(traces)


def _ignore(done: int, total: int) -> None:
    pass
