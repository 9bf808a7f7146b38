"""What a whole program means, neuron by neuron, in Python integers.

A layer starts with the data: at step t it reads what its sources emit at the same step t, or
at step t - delay where the synapses say so (nothing before step 0), in the order of the
program. A target hides its pipeline delay. The image is read at every step. Every current and
every membrane starts each sample at 0. An accumulator adds its currents and biases
over all steps and neither leaks nor saturates; the class is the first largest logit.

Slow on purpose, like `neuron.py`: it walks every synapse. Use it on small programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.errors import unreachable
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import IntArray, Shape, unpack
from snnc.semantics.neuron import step

Incoming = list[list[tuple[int, int]]]  # for each neuron: (source neuron, weight), weight != 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Specified:
    """What the specification says a program does on a batch."""

    rasters: dict[str, npt.NDArray[np.bool_]]  # layer -> (samples, steps, *shape)
    logits: npt.NDArray[np.int64]  # (samples, classes)
    events: dict[str, npt.NDArray[np.int64]]  # "population/synapses" -> (samples, steps)


def specified(program: Program, codes: IntArray) -> Specified:
    """Run a program on codes (samples, *shape), exactly as the specification says."""
    samples, steps = len(codes), program.steps
    wiring = {
        (population.name, bundle.name): incoming(
            bundle, program.shape_of(bundle.source), population.shape
        )
        for population in program.populations
        for bundle in population.synapses
    }
    rasters = {
        layer.name: np.zeros((samples, steps, layer.size), dtype=np.bool_)
        for layer in program.layers
    }
    logits = np.zeros((samples, program.classes), dtype=np.int64)
    events = {f"{p}/{b}": np.zeros((samples, steps), dtype=np.int64) for p, b in wiring}
    for n in range(samples):
        states = {layer.name: [(0, 0)] * layer.size for layer in program.layers}
        image = [int(code) for code in codes[n].reshape(-1)]
        emitted: dict[str, list[list[int]]] = {layer.name: [] for layer in program.layers}
        for t in range(steps):
            for population in program.populations:
                currents = [0] * population.size
                for bundle in population.synapses:
                    if bundle.delay > t:
                        continue
                    values = (
                        image
                        if bundle.source == INPUT
                        else emitted[bundle.source][t - bundle.delay]
                    )
                    delivered = _deliver(wiring[population.name, bundle.name], values, currents)
                    events[f"{population.name}/{bundle.name}"][n, t] = delivered
                match population:
                    case Layer():
                        spikes = _advance(population, states[population.name], currents)
                        emitted[population.name].append(spikes)
                        rasters[population.name][n, t] = spikes
                    case Accumulator():
                        for j, current in enumerate(currents):
                            logits[n, j] += current + _bias(population, j)
                    case _:
                        unreachable(population)
            if not isinstance(program.readout, Accumulator):
                logits[n] += emitted[program.layers[-1].name][t]
    shaped = {
        layer.name: rasters[layer.name].reshape(samples, steps, *layer.shape)
        for layer in program.layers
    }
    return Specified(rasters=shaped, logits=logits, events=events)


def incoming(bundle: Synapses, source: Shape, target: Shape) -> Incoming:
    """List, for each neuron in (C, H, W) order, its non-zero synapses."""
    found: Incoming = [[] for _ in range(prod(target))]
    weight = unpack(bundle.weight)
    match bundle.kind:
        case FullyConnected():
            for post, pre in zip(*np.nonzero(weight), strict=True):
                found[post].append((int(pre), int(weight[post, pre])))
        case Convolution() as kind:
            for post, pre, value in _convolution(weight, kind, source, target):
                found[post].append((pre, value))
        case _:
            unreachable(bundle.kind)
    return found


def _convolution(
    weight: IntArray, kind: Convolution, source: Shape, target: Shape
) -> Iterator[tuple[int, int, int]]:
    _, height, width = source
    _, rows, columns = target
    per_group_out = weight.shape[0] // kind.groups
    for out, c, ky, kx in zip(*np.nonzero(weight), strict=True):
        channel = out // per_group_out * weight.shape[1] + c
        for row in range(rows):
            for column in range(columns):
                y = row * kind.stride[0] - kind.padding[0] + ky
                x = column * kind.stride[1] - kind.padding[1] + kx
                if 0 <= y < height and 0 <= x < width:
                    post = (out * rows + row) * columns + column
                    pre = (channel * height + y) * width + x
                    yield int(post), int(pre), int(weight[out, c, ky, kx])


def _deliver(wiring: Incoming, values: list[int], currents: list[int]) -> int:
    delivered = 0
    for j, synapses in enumerate(wiring):
        for pre, weight in synapses:
            if values[pre]:
                currents[j] += weight * values[pre]
                delivered += 1
    return delivered


def _advance(layer: Layer, states: list[tuple[int, int]], currents: list[int]) -> list[int]:
    spikes = []
    for j, current in enumerate(currents):
        u, v, spike = step(
            *states[j],
            current,
            current_decay=layer.current_decay,
            bias=_bias(layer, j),
            threshold=layer.threshold,
            decay=layer.decay,
            reset=layer.reset,
        )
        states[j] = u, v
        spikes.append(int(spike))
    return spikes


def _bias(population: Layer | Accumulator, neuron: int) -> int:
    """Return the bias of a neuron: one for each channel of a map, or for each flat neuron."""
    per_channel = population.size // population.shape[0]
    return int(population.bias[neuron // per_channel])
