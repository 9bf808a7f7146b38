"""Multiply-accumulates of the ordinary network that a spiking one is compared with.

Dense counts follow from shapes: `textbook` is kernel x channels x output positions, zero
padding included; `dense` leaves out the taps that fall on padding. A device that skips
zeros does less: `skipping` counts non-zero weights that meet a non-zero activation inside
the output. Biases, batch norm (it folds into the weights) and the additions of average
pooling are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.energy.sampled import Sampled, sampled
from snnc.errors import InvalidSetting, unreachable
from snnc.ir.geometry import convolved
from snnc.ir.graph import Conv2d, Graph, Linear, Node, Synaptic
from snnc.ir.program import Convolution, FullyConnected, Program, Synapses
from snnc.ir.weights import Dense, FloatArray, IntArray, Shape, convert, integers, nonzeros
from snnc.passes.copies import copied
from snnc.simulate.activity import fan_out


@dataclass(frozen=True, kw_only=True)
class AnnLayerCounts:
    """One layer with weights, for one image."""

    name: str
    weights: int
    stored: int  # non-zero weights
    textbook: int
    dense: int
    skipping: Sampled | None  # None where no activations were measured


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A number that is not there, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class AnnCounts:
    """Multiply-accumulates of one inference of the ordinary network."""

    origin: str  # what the shapes were taken from
    layers: tuple[AnnLayerCounts, ...]
    skipping: Sampled | Absent

    @property
    def dense(self) -> int:
        """All multiply-accumulates but those on zero padding."""
        return sum(layer.dense for layer in self.layers)

    @property
    def textbook(self) -> int:
        """All multiply-accumulates, those on zero padding included."""
        return sum(layer.textbook for layer in self.layers)


def ann_counts(graph: Graph, activations: Iterable[Mapping[str, FloatArray]]) -> AnnCounts:
    """Count the multiply-accumulates of a network of Relu nodes on the images it was run on.

    `activations` yields one mapping for each batch of images, from the name of each node to
    its output (images, *shape), as `snnc.simulate.floating.activations` returns it.

    Raises:
        InvalidSetting: there are no images.
    """
    nodes = [(node, node.op) for node in graph.nodes if isinstance(node.op, Conv2d | Linear)]
    shapes: dict[str, Shape] = {}
    batches: dict[str, list[npt.NDArray[np.int64]]] = {node.name: [] for node, _ in nodes}
    for outputs in activations:
        for node, op in nodes:
            read = outputs[node.inputs[0]]
            shapes[node.name] = read.shape[1:]
            active = (read != 0).reshape(len(read), -1)
            reached = fan_out(_pattern(node, op), read.shape[1:]).reshape(-1)
            batches[node.name].append(active @ reached)
    per_node = {name: np.concatenate(parts) for name, parts in batches.items() if parts}
    total = sum(per_node.values(), start=np.zeros((), dtype=np.int64))
    if total.ndim == 0 or not len(total):
        raise InvalidSetting("the zero-skipping count needs activations of at least one image")
    layers = tuple(
        _layer(_pattern(node, op), shapes[node.name], sampled(per_node[node.name]))
        for node, op in nodes
    )
    return AnnCounts(origin="the float graph", layers=layers, skipping=sampled(total))


def ann_counts_of_program(program: Program) -> AnnCounts:
    """Return the dense counts of a network with the shapes of a program, run once.

    A pool that was folded into the next kernel counts as part of that kernel; copies for
    several readers of one sum, which the ordinary network computes once, do not count.
    """
    copies = copied(program)
    bundles = [
        each for into in program.populations for each in into.synapses if each.name not in copies
    ]
    return AnnCounts(
        origin="the shapes of the program",
        layers=tuple(_layer(each, program.shape_of(each.source), None) for each in bundles),
        skipping=Absent(reason="no float network was given, so its zero activations are unknown"),
    )


def _pattern(node: Node, op: Synaptic) -> Synapses:
    """Return the connections of a float op: 1 where a weight is not zero."""
    kind: Convolution | FullyConnected
    match op:
        case Conv2d():
            kind = Convolution(stride=op.stride, padding=op.padding, groups=op.groups)
        case Linear():
            kind = FullyConnected()
        case _:
            unreachable(op)
    weight = convert(op.weight, _is_used, np.int32)
    return Synapses(name=node.name, source=node.inputs[0], weight=weight, kind=kind)


def _is_used(values: FloatArray) -> IntArray:
    return integers(values != 0)


def _layer(synapses: Synapses, source: Shape, skipping: Sampled | None) -> AnnLayerCounts:
    weights = prod(synapses.weight.shape)
    textbook, dense = _dense(synapses, source, weights)
    return AnnLayerCounts(
        name=synapses.name,
        weights=weights,
        stored=nonzeros(synapses.weight),
        textbook=textbook,
        dense=dense,
        skipping=skipping,
    )


def _dense(synapses: Synapses, source: Shape, weights: int) -> tuple[int, int]:
    """Return the textbook and the valid count of a bundle with no zero weight.

    All channels of a convolution meet the padding alike, so one of them is enough.
    """
    match synapses.kind:
        case FullyConnected():
            return weights, weights
        case Convolution(stride=stride, padding=padding):
            shape = synapses.weight.shape
            _, rows, columns = convolved(source, shape, stride, padding)
            channel = Synapses(
                name=synapses.name,
                source=synapses.source,
                weight=Dense(integers(np.ones((1, 1, *shape[2:])))),
                kind=Convolution(stride=stride, padding=padding, groups=1),
            )
            inside = int(fan_out(channel, (1, *source[1:])).sum())
            return weights * rows * columns, shape[0] * shape[1] * inside
        case _:
            unreachable(synapses.kind)
