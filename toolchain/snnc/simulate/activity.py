"""From spikes to counts: how many synaptic events a run delivered.

An event is one spike meeting one non-zero weight whose target lies inside the output, so a
spike at the border of a padded convolution delivers fewer events than one in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from snnc.errors import unreachable
from snnc.ir.geometry import convolved
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import Dense, IntArray, Shape, unpack
from snnc.simulate.currents import currents
from snnc.simulate.trace import Counts, LayerTrace, Spikes, SynapseTrace, Trace

Scalar = TypeVar("Scalar", bound=np.generic)


def fan_out(synapses: Synapses, source: Shape) -> Counts:
    """Return how many non-zero synapses leave each source neuron: an array of shape `source`."""
    used = unpack(synapses.weight) != 0
    match synapses.kind:
        case FullyConnected():
            leaving: Counts = used.sum(axis=0, dtype=np.int64)
            return leaving.reshape(source)
        case Convolution() as kind:
            return _convolution_fan_out(used, kind, source)
        case _:
            unreachable(synapses.kind)


def _convolution_fan_out(used: Spikes, kind: Convolution, source: Shape) -> Counts:
    """Count, for each tap of the kernel, the output positions that reach each source pixel."""
    out, _, kernel_height, kernel_width = used.shape
    _, rows, columns = convolved(source, used.shape, kind.stride, kind.padding)
    (step_y, step_x), (pad_y, pad_x) = kind.stride, kind.padding
    taps = used.reshape(kind.groups, out // kind.groups, *used.shape[1:]).sum(1, dtype=np.int64)
    taps = taps.reshape(source[0], kernel_height, kernel_width)
    padded = np.zeros((source[0], source[1] + 2 * pad_y, source[2] + 2 * pad_x), dtype=np.int64)
    for ky in range(kernel_height):
        for kx in range(kernel_width):
            reached = padded[
                :,
                ky : ky + (rows - 1) * step_y + 1 : step_y,
                kx : kx + (columns - 1) * step_x + 1 : step_x,
            ]
            reached += taps[:, ky, kx, None, None]
    return padded[:, pad_y : pad_y + source[1], pad_x : pad_x + source[2]]


def delivered(synapses: Synapses, source: Shape, emitted: Spikes | IntArray) -> Counts:
    """Return the events (samples, steps) of what a source emitted (samples, steps, *source)."""
    active = (emitted != 0).reshape(*emitted.shape[:2], -1)
    events: Counts = active @ fan_out(synapses, source).reshape(-1)
    return events


def delayed(emitted: npt.NDArray[Scalar], delay: int) -> npt.NDArray[Scalar]:
    """Return what arrives (samples, steps, *shape) of what was emitted `delay` steps earlier."""
    if not delay:
        return emitted
    arriving = np.zeros_like(emitted)
    arriving[:, delay:] = emitted[:, :-delay]
    return arriving


def updated(layer: Layer, arriving: Sequence[Spikes | IntArray]) -> Counts:
    """Return how many neurons (samples, steps) received an event or have a bias.

    `arriving` holds what reaches each bundle of synapses, (samples, steps, *source).
    """
    some = arriving[0]
    touched = np.zeros((*some.shape[:2], *layer.shape), dtype=np.bool_)
    touched |= layer.bias.reshape(-1, *[1] * (len(layer.shape) - 1)) != 0
    if not (layer.bias != 0).all():
        for bundle, values in zip(layer.synapses, arriving, strict=True):
            pattern = replace(bundle, weight=Dense((unpack(bundle.weight) != 0).astype(np.int32)))
            source = values.shape[2:]
            active = (values != 0).astype(np.int32).reshape(-1, *source)
            hits = currents(pattern, source, active) > 0
            touched |= hits.reshape(touched.shape)
    return per_step(touched)


def per_step(flags: Spikes) -> Counts:
    """Count the set flags (samples, steps, *shape) of each sample and step."""
    counts: Counts = flags.reshape(*flags.shape[:2], -1).sum(axis=-1, dtype=np.int64)
    return counts


def trace_from_rasters(
    program: Program,
    codes: IntArray,
    rasters: Mapping[str, Spikes],
    *,
    keep_rasters: bool,
    logits: Counts | None = None,
) -> Trace:
    """Return the trace of a run whose spikes (samples, steps, *shape) are known.

    The readout is computed from the spikes unless the `logits` that a target read are given.
    """
    steps = program.steps
    every_step = np.broadcast_to(codes[:, None], (len(codes), steps, *codes.shape[1:]))
    arriving: dict[tuple[str, str], Spikes | IntArray] = {
        (population.name, bundle.name): every_step
        if bundle.source == INPUT
        else delayed(rasters[bundle.source], bundle.delay)
        for population in program.populations
        for bundle in population.synapses
    }
    layers = tuple(
        LayerTrace(
            name=layer.name,
            neurons=layer.size,
            spikes=per_step(rasters[layer.name]),
            updated=updated(
                layer, [arriving[layer.name, bundle.name] for bundle in layer.synapses]
            ),
            raster=rasters[layer.name] if keep_rasters else None,
        )
        for layer in program.layers
    )
    synapses = tuple(
        SynapseTrace(
            name=bundle.name,
            population=population.name,
            source=bundle.source,
            events=delivered(
                bundle, program.shape_of(bundle.source), arriving[population.name, bundle.name]
            ),
        )
        for population in program.populations
        for bundle in population.synapses
    )
    if logits is None:
        logits = read_out(program, codes, rasters)
    return Trace(
        predictions=logits.argmax(axis=1),  # numpy names the first largest, as the spec does
        logits=logits,
        layers=layers,
        synapses=synapses,
        steps=steps,
    )


def read_out(program: Program, codes: IntArray, rasters: Mapping[str, Spikes]) -> Counts:
    """Return the logits (samples, classes) that follow from the spikes.

    The accumulator is linear, so it may read spike counts instead of single steps.
    """
    if not isinstance(program.readout, Accumulator):
        last = program.layers[-1]
        counts_of_last: Counts = rasters[last.name].sum(axis=1, dtype=np.int64)
        return counts_of_last.reshape(len(codes), -1)
    last_currents = np.zeros((len(codes), program.readout.size), dtype=np.int64)
    for bundle in program.readout.synapses:
        if bundle.source == INPUT:
            counts = codes.astype(np.int64) * program.steps
        else:
            heard = program.steps - bundle.delay  # what is still under way at the end is lost
            counts = rasters[bundle.source][:, : max(heard, 0)].sum(axis=1, dtype=np.int64)
        source = program.shape_of(bundle.source)
        last_currents += currents(bundle, source, counts).reshape(len(codes), -1)
    return last_currents + program.steps * program.readout.bias.astype(np.int64)
