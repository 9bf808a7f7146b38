"""How many synapses of each layer a spike of each neuron meets, counted in the float graph.

A spike at the border of a padded convolution meets fewer synapses than one in the middle.
A spike that is pooled on its way meets those of its window, as it does once pooling is
folded into the next kernel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from snnc.errors import Issue, Refusal, unreachable
from snnc.ir.check import shapes
from snnc.ir.graph import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Identity,
    Input,
    Linear,
    Node,
    Normalize,
    Readout,
    Relu,
    Synaptic,
)
from snnc.ir.program import Convolution, FullyConnected, Synapses
from snnc.ir.weights import Dense, Shape, integers, unpack
from snnc.simulate.activity import fan_out
from snnc.simulate.trace import Counts

FanOuts = Mapping[str, Counts]  # spiking layer (or the image's node) to an array of its shape


def fan_outs(graph: Graph, layers: Collection[str], *, dense: bool) -> dict[str, FanOuts]:
    """Map each of the layers that the graph has to the fan-outs of what drives it.

    Counted are the synapses of weights that are not zero, or with `dense` all of them.

    Raises:
        Refusal: a layer is driven by currents; every such layer is named.
    """
    found = shapes(graph)
    walks = {
        node.name: _Walk(graph, found, node, dense=dense)
        for node in graph.nodes
        if node.name in layers and isinstance(node.op, Conv2d | Linear)
    }
    if issues := [_driven_by_currents(name) for name, walk in walks.items() if walk.currents]:
        raise Refusal("cannot count synaptic events", issues)
    return {name: walk.found for name, walk in walks.items()}


class _Walk:
    """The way back from one layer to the spikes and pixels that drive it."""

    def __init__(
        self, graph: Graph, found: Mapping[str, Shape], layer: Node, *, dense: bool
    ) -> None:
        assert isinstance(layer.op, Conv2d | Linear)  # noqa: S101 - chosen so by fan_outs
        self.graph, self.shapes = graph, found
        self.found: dict[str, Counts] = {}
        self.currents = False  # it met a layer that does not spike
        (source,) = layer.inputs
        self._back(source, fan_out(_pattern(layer, layer.op, dense), found[source]))

    def _back(self, name: str, reached: Counts) -> None:
        """Note the sources behind a node whose every value reaches so many synapses."""
        node = self.graph[name]
        match node.op:
            case Fire() | Input() | Normalize():
                self.found[name] = self.found.get(name, 0) + reached
            case AvgPool2d() as op:
                (source,) = node.inputs
                self._back(source, _spread(op, reached, self.shapes[source]))
            case Flatten():
                (source,) = node.inputs
                self._back(source, reached.reshape(self.shapes[source]))
            case Add() | Identity() | BatchNorm():
                for source in node.inputs:
                    self._back(source, reached)
            case Conv2d() | Linear():
                self.currents = True
            case Relu() | Readout():
                raise AssertionError(f"{name} is no node of a spiking network that is read")
            case _:
                unreachable(node.op)


def _pattern(node: Node, op: Synaptic, dense: bool) -> Synapses:
    """Return the connections of a layer as weights of 1, where counted."""
    weight = unpack(op.weight)
    kind: Convolution | FullyConnected
    match op:
        case Conv2d():
            kind = Convolution(stride=op.stride, padding=op.padding, groups=op.groups)
        case Linear():
            kind = FullyConnected()
        case _:
            unreachable(op)
    used = integers(np.ones(weight.shape) if dense else weight != 0)
    return Synapses(name=node.name, source=node.inputs[0], weight=Dense(used), kind=kind)


def _spread(pool: AvgPool2d, reached: Counts, source: Shape) -> Counts:
    """Give every value of a map what the windows that it is in reach, together."""
    spread = np.zeros(source, dtype=np.int64)
    (height, width), (step_y, step_x) = pool.kernel, pool.stride
    _, rows, columns = reached.shape
    for ky in range(height):
        for kx in range(width):
            place = spread[
                :,
                ky : ky + (rows - 1) * step_y + 1 : step_y,
                kx : kx + (columns - 1) * step_x + 1 : step_x,
            ]
            place += reached
    return spread


def _driven_by_currents(layer: str) -> Issue:
    return Issue(
        layer,
        "is driven by a layer that does not spike, so no spikes can be counted",
        'put a ReLU between the two, or take budget = "weights"',
        "driven-by-currents",
    )
