"""Run many samples a batch at a time, so that memory stays bounded and progress shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from snnc.errors import InvalidSetting
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.simulate.trace import LayerTrace, SynapseTrace, Trace
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


def concatenate(traces: Sequence[Trace]) -> Trace:
    """Return one trace of all samples of several runs of the same program."""
    first = traces[0]
    if len(traces) == 1:
        return first
    return Trace(
        predictions=np.concatenate([trace.predictions for trace in traces]),
        logits=np.concatenate([trace.logits for trace in traces]),
        layers=tuple(
            _layer([trace.layers[i] for trace in traces]) for i in range(len(first.layers))
        ),
        synapses=tuple(
            _synapses([trace.synapses[i] for trace in traces]) for i in range(len(first.synapses))
        ),
        steps=first.steps,
    )


def _layer(parts: Sequence[LayerTrace]) -> LayerTrace:
    rasters = [part.raster for part in parts if part.raster is not None]
    return LayerTrace(
        name=parts[0].name,
        neurons=parts[0].neurons,
        spikes=np.concatenate([part.spikes for part in parts]),
        updated=np.concatenate([part.updated for part in parts]),
        raster=np.concatenate(rasters) if rasters else None,
    )


def _synapses(parts: Sequence[SynapseTrace]) -> SynapseTrace:
    return SynapseTrace(
        name=parts[0].name,
        population=parts[0].population,
        source=parts[0].source,
        events=np.concatenate([part.events for part in parts]),
    )
