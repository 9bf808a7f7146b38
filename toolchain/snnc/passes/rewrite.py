"""How passes walk and change a graph, so that each pass holds only its rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from snnc.errors import Issue
from snnc.ir.graph import Add, Conv2d, Flatten, Graph, Linear, Node, Op, consumers
from snnc.ir.weights import Csr, Dense, Shape, floats, freeze, integers


def with_ops(graph: Graph, ops: Mapping[str, Op]) -> Graph:
    """Return the graph with some nodes' ops replaced."""
    return replace(
        graph,
        nodes=tuple(
            replace(node, op=ops[node.name]) if node.name in ops else node for node in graph.nodes
        ),
    )


def bypass(graph: Graph, name: str) -> Graph:
    """Remove a node of one input; its readers read that input instead."""
    (source,) = graph[name].inputs
    return replace(
        graph,
        nodes=tuple(
            replace(node, inputs=tuple(source if i == name else i for i in node.inputs))
            for node in graph.nodes
            if node.name != name
        ),
    )


def insert(graph: Graph, node: Node, *, reader: str, position: int) -> Graph:
    """Put a new node in front of input number `position` of `reader`."""
    nodes: list[Node] = []
    for old in graph.nodes:
        if old.name == reader:
            nodes.append(node)
            inputs = (*old.inputs[:position], node.name, *old.inputs[position + 1 :])
            old = replace(old, inputs=inputs)
        nodes.append(old)
    return replace(graph, nodes=tuple(nodes))


def without_unread(graph: Graph) -> Graph:
    """Drop nodes that nothing reads any more, except the readout."""
    read = consumers(graph)
    kept = tuple(node for node in graph.nodes if read[node.name] or node is graph.nodes[-1])
    smaller = replace(graph, nodes=kept)
    return smaller if len(kept) == len(graph.nodes) else without_unread(smaller)


def through_flatten(graph: Graph, name: str) -> Node:
    """Return the node that `name` stands for, looking through Flatten."""
    node = graph[name]
    while isinstance(node.op, Flatten):
        node = graph[node.inputs[0]]
    return node


def drive(graph: Graph, reader: Node) -> tuple[tuple[Node, ...], tuple[Issue, ...]]:
    """Return the synaptic nodes whose sum is the input of `reader`, and what is in the way.

    Looks through Flatten and Add. Each synaptic node must be read only on this path, since
    the pass that asks wants to change it or to hand it to `reader`.
    """
    found: list[Node] = []
    issues: list[Issue] = []
    readers = consumers(graph)

    def collect(name: str) -> None:
        node = graph[name]
        if len(readers[name]) > 1:
            issues.append(
                Issue(
                    name,
                    f"{', '.join(user.name for user in readers[name])} share its output before "
                    "it spikes",
                    "put a spiking layer (a ReLU before conversion) before the branch",
                    "branch",
                )
            )
            return
        match node.op:
            case Flatten() | Add():
                for source in node.inputs:
                    collect(source)
            case Conv2d() | Linear():
                found.append(node)
            case _:
                issues.append(
                    Issue(
                        name,
                        f"{type(node.op).__name__} feeds {reader.name} where a convolution or a "
                        "linear layer must",
                        "put the layers in the order linear, batch norm, spiking, pooling",
                        "order",
                    )
                )

    for source in reader.inputs:
        collect(source)
    return tuple(found), tuple(issues)


def diagonal(shape: Shape, value: float) -> Conv2d | Linear:
    """Return the synapses that pass each neuron of a map on to itself, times `value`."""
    if len(shape) == 1:
        (size,) = shape
        weight = Csr(
            shape=(size, size),
            data=floats(np.full(size, value)),
            indices=integers(np.arange(size)),
            indptr=freeze(np.arange(size + 1), np.int64),
        )
        return Linear(weight=weight, bias=floats(np.zeros(size)))
    return depthwise(shape[0], (1, 1), (1, 1), value)


def depthwise(channels: int, kernel: Shape, stride: tuple[int, int], value: float) -> Conv2d:
    """Return a convolution that sums windows of each channel, times `value`."""
    return Conv2d(
        weight=Dense(floats(np.full((channels, 1, *kernel), value))),
        bias=floats(np.zeros(channels)),
        stride=stride,
        padding=(0, 0),
        groups=channels,
    )
