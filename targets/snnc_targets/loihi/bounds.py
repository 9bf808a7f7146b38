"""The largest currents and logits that any image can cause, neuron by neuron.

They hold for every image and for all spikes, as if each synapse of a neuron were active with a
current of the same sign.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from snnc.ir.program import INPUT, Accumulator, Layer, Program
from snnc.ir.weights import Dense, unpack
from snnc.semantics.neuron import ALIGN, DECAY_BITS
from snnc.simulate.currents import currents
from snnc.simulate.trace import Counts

from snnc_targets.loihi.plan import lasts

_HOPELESS = 1 << 40  # units of membrane: far beyond 24 bits, far below 64


def current_bounds(program: Program, population: Layer | Accumulator) -> Counts:
    """Return for each neuron (of the population's shape) sum |w| * max |input| + |bias|."""
    per_channel = (-1, *[1] * (len(population.shape) - 1))
    bounds = np.zeros(population.shape, dtype=np.int64)
    bounds += np.abs(population.bias.astype(np.int64)).reshape(per_channel)
    for synapses in population.synapses:
        source = program.shape_of(synapses.source)
        largest = np.ones(source, dtype=np.int32)
        if synapses.source == INPUT:
            largest *= program.input.peaks.reshape(-1, *[1] * (len(source) - 1))
        size = replace(synapses, weight=Dense(np.abs(unpack(synapses.weight))))
        bounds += currents(size, source, largest[None]).reshape(population.shape)
    return bounds


def lasting_bounds(program: Program, population: Layer | Accumulator) -> Counts:
    """Return the largest |current| + |bias| of each neuron within T steps.

    A current that outlives its step adds up: |u| grows as if every input came at every step, all
    of them of one sign. Rounding toward zero never makes it larger.
    """
    bounds = current_bounds(program, population)
    if not (isinstance(population, Layer) and lasts(population)):
        return bounds
    bias = np.abs(population.bias.astype(np.int64))
    bias = bias.reshape(-1, *[1] * (len(population.shape) - 1))
    arriving = (bounds - bias) << ALIGN
    kept = (1 << DECAY_BITS) - population.current_decay
    u = np.zeros_like(bounds)
    for _ in range(program.steps):
        u = (u * kept >> DECAY_BITS) + arriving
        if int(u.max()) >= _HOPELESS:
            break
    rounded_up: Counts = -(-u >> ALIGN) + bias
    return rounded_up


def image_bounds(program: Program, population: Layer | Accumulator) -> Counts:
    """Return for each neuron the part of `current_bounds` that is the image's and the bias's."""
    from_image = tuple(s for s in population.synapses if s.source == INPUT)
    return current_bounds(program, replace(population, synapses=from_image))


def largest_logit(program: Program, readout: Accumulator) -> tuple[int, int]:
    """Return which logit can become the largest in T steps, and how large."""
    bounds = current_bounds(program, readout).reshape(-1)
    neuron = int(bounds.argmax())
    return neuron, int(bounds[neuron]) * program.steps
