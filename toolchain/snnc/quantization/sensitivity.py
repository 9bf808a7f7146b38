"""Which layer's integers hurt most: each alone, in a network that is float elsewhere.

The integers of one layer, divided by its scale, take the place of its floats: weights, bias,
threshold and leak. All other layers stay in float64. What is measured is how far that moves
the logits: mean |logit - float logit| over the standard deviation of the float logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

import numpy as np
import numpy.typing as npt

from snnc.ir.graph import Conv2d, Graph, Linear, Op, Reset
from snnc.ir.program import INPUT, Accumulator, Layer, Program
from snnc.ir.weights import Dense, FloatArray, floats, unpack
from snnc.passes.image import ImageCoding, image_coding, release
from snnc.passes.populations import FloatPopulation, populations
from snnc.passes.rewrite import with_ops
from snnc.quantization.trial import spread
from snnc.quantization.wanted import chunks
from snnc.semantics.neuron import ALIGN, DECAY_BITS
from snnc.simulate.floating import maps


def sensitivities(
    prepared: Graph, program: Program, images: npt.NDArray[np.floating]
) -> dict[str, float]:
    """Return how far each population's integers alone move the logits on images.

    `program` is one that `quantize` made of `prepared`.
    """
    coding = image_coding(prepared, program.input.levels)
    found = populations(prepared, coding)
    alone = {
        population.name: (
            with_ops(prepared, _as_floats(population, integers, coding)),
            _after(prepared, population),
        )
        for population, integers in zip(found, program.populations, strict=True)
    }
    logits: list[FloatArray] = []
    moved: dict[str, list[FloatArray]] = {name: [] for name in alone}
    for part in chunks(prepared, len(images)):
        plain = maps(prepared, images[part])
        logits.append(_logits(prepared, plain))
        for name, (graph, changed) in alone.items():
            known = {node: values for node, values in plain.items() if node not in changed}
            moved[name].append(_logits(prepared, maps(graph, images[part], known)))
    true = np.concatenate(logits)
    return {
        name: float(np.abs(np.concatenate(parts) - true).mean()) / spread(true)
        for name, parts in moved.items()
    }


def _logits(graph: Graph, found: Mapping[str, FloatArray]) -> FloatArray:
    values = found[graph.nodes[-1].name]
    return values.reshape(len(values), -1)


def _after(graph: Graph, population: FloatPopulation) -> set[str]:
    """Return the nodes that the synapses of a population change: themselves and what reads them."""
    changed = {bundle.name for bundle in population.bundles}
    for node in graph.nodes:
        if changed.intersection(node.inputs):
            changed.add(node.name)
    return changed


def _as_floats(
    population: FloatPopulation, integers: Layer | Accumulator, coding: ImageCoding
) -> dict[str, Op]:
    """Return the ops of the graph that compute what the integers do, up to saturation."""
    ops: dict[str, Op] = {}
    biases = _biases(integers, len(population.bundles))
    for bundle, synapses, bias in zip(population.bundles, integers.synapses, biases, strict=True):
        weight = Dense(floats(unpack(synapses.weight) / integers.scale))
        op = bundle.op
        assert isinstance(op, Conv2d | Linear)  # noqa: S101 - what populations hold
        op = replace(op, weight=weight, bias=bias)
        ops[bundle.name] = release(op, coding) if bundle.source == INPUT else op
    if population.fire is not None:
        assert isinstance(integers, Layer)  # noqa: S101 - made of this population
        ops[population.node] = replace(
            population.fire,
            threshold=floats(level(integers) / integers.scale),
            keep=1.0 - integers.decay / (1 << DECAY_BITS),
        )
    return ops


def _biases(integers: Layer | Accumulator, bundles: int) -> Sequence[FloatArray]:
    whole = floats(integers.bias / integers.scale)
    return [whole, *[floats(np.zeros(len(whole)))] * (bundles - 1)]


def level(layer: Layer) -> float:
    """Return the membrane, in units of current, at which a neuron of a layer fires.

    Without a leak and with a hard reset a membrane is a multiple of 2**ALIGN (see
    `semantics.neuron`), so the next multiple is what it has to reach.
    """
    exact: float = layer.threshold / (1 << ALIGN)
    return ceil(exact) if layer.reset is Reset.ZERO and layer.decay == 0 else exact
