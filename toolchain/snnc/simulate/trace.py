"""What a run of a program leaves behind: the only source of activity for energy.

Counts are of what was delivered. `events` of a synapse bundle counts, for each sample and
step, the non-zero weights that a spike met: one addition each. Synapses that read the
image meet codes, not spikes; for them it counts the non-zero weights that meet a non-zero
code (a pixel less its zero point), one multiplication each, and every step repeats them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Spikes = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class SynapseTrace:
    """Deliveries of one bundle of synapses."""

    name: str
    population: str  # the layer (or accumulator) that received them
    source: str
    events: Counts  # (samples, steps)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerTrace:
    """Activity of one layer of spiking neurons."""

    name: str
    neurons: int
    spikes: Counts  # (samples, steps)
    updated: Counts  # (samples, steps): neurons that got an event or have a bias
    raster: Spikes | None  # (samples, steps, *shape), when it was asked for


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """The result of running a program on a batch of samples."""

    predictions: Counts  # (samples,): the first largest logit
    logits: Counts  # (samples, classes)
    layers: tuple[LayerTrace, ...]
    synapses: tuple[SynapseTrace, ...]
    steps: int

    @property
    def samples(self) -> int:
        """How many samples were run."""
        return len(self.predictions)


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
