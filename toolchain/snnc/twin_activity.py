"""The trace of a run in torch: the counts of `snnc.simulate.activity`, on the twin's device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from snnc.ir.program import INPUT, Layer, Program, Synapses
from snnc.ir.weights import unpack
from snnc.simulate.activity import fan_out
from snnc.simulate.trace import Counts, LayerTrace, Spikes, SynapseTrace, Trace
from snnc.twin_currents import current, later


def activity(
    program: Program, emitted: Mapping[str, Tensor], logits: Tensor, *, raster: bool
) -> Trace:
    """Return the trace of a run; keep the spikes if `raster`.

    `emitted` holds spikes (T, N, *shape) of each layer and, as INPUT, the codes (1, N, *shape).
    """
    named = _numpy(logits)
    return Trace(
        predictions=named.argmax(axis=1),  # numpy names the first largest, as the spec does
        logits=named,
        layers=tuple(
            LayerTrace(
                name=layer.name,
                neurons=layer.size,
                spikes=_per_step(emitted[layer.name], program.steps),
                updated=_updated(layer, emitted, program.steps),
                raster=_raster(emitted[layer.name]) if raster else None,
            )
            for layer in program.layers
        ),
        synapses=tuple(
            SynapseTrace(
                name=bundle.name,
                population=population.name,
                source=bundle.source,
                events=_events(program, bundle, emitted[bundle.source]),
            )
            for population in program.populations
            for bundle in population.synapses
        ),
        steps=program.steps,
    )


def _events(program: Program, bundle: Synapses, emitted: Tensor) -> Counts:
    """Return the events (samples, steps) of a bundle, added in float64: exact below 2**53."""
    leaving = fan_out(bundle, program.shape_of(bundle.source)).reshape(-1)
    weight = torch.tensor(leaving, dtype=torch.float64, device=emitted.device)
    delivered = torch.stack([(step != 0).flatten(1).double() @ weight for step in emitted])
    return _every_step(later(delivered, bundle.delay, program.steps), program.steps)


def _updated(layer: Layer, emitted: Mapping[str, Tensor], steps: int) -> Counts:
    """Return how many neurons (samples, steps) received an event or have a bias.

    A sum of ones is not 0 in any precision, so the twin's dtype will do.
    """
    samples = emitted[INPUT].shape[1]
    if (layer.bias != 0).all():
        return np.full((samples, steps), layer.size, dtype=np.int64)
    some = emitted[INPUT]
    bias = torch.tensor(layer.bias != 0, device=some.device)
    touched = bias.reshape(-1, *[1] * (len(layer.shape) - 1)).expand(1, samples, *layer.shape)
    for bundle in layer.synapses:
        source = emitted[bundle.source]
        pattern = torch.tensor(unpack(bundle.weight) != 0, device=source.device).to(source.dtype)
        hits = current(bundle, pattern, (source != 0).to(source.dtype).flatten(0, 1)) > 0
        hits = hits.reshape(*source.shape[:2], *layer.shape)
        touched = touched | later(hits, bundle.delay, steps)
    return _per_step(touched, steps)


def _per_step(flags: Tensor, steps: int) -> Counts:
    """Count the set flags (T or 1, N, *shape) of each sample and step."""
    return _every_step(flags.flatten(2).count_nonzero(dim=2), steps)


def _every_step(counts: Tensor, steps: int) -> Counts:
    """Return counts (T or 1, N) as (samples, steps)."""
    return _numpy(counts.expand(steps, -1).T)


def _numpy(counts: Tensor) -> Counts:
    return np.ascontiguousarray(counts.long().cpu().numpy())


def _raster(spikes: Tensor) -> Spikes:
    """Return the spikes (samples, steps, *shape)."""
    return np.ascontiguousarray(spikes.bool().transpose(0, 1).cpu().numpy())
