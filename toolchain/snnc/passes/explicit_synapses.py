"""Give every connection into a neuron weights of its own."""

from __future__ import annotations

from snnc.ir.check import shapes
from snnc.ir.graph import Add, AvgPool2d, Fire, Graph, Input, Node, Normalize
from snnc.passes.rewrite import depthwise, diagonal, insert, through_flatten, without_unread


def explicit_synapses(graph: Graph) -> Graph:
    """Put weights where spikes, pooled spikes or the image reach a sum or a neuron without any.

    A residual shortcut becomes the identity, with I the 1 x 1 depthwise kernel of ones (a
    diagonal matrix for a flat map):   s = I s
    Pooling on its way into a sum becomes a depthwise convolution:   mean(s) = (1 / k) sum(s)

    New nodes are named `reader.source`, and by their position too if a source is read twice.
    """
    found = shapes(graph)
    for reader in graph.nodes:
        if not isinstance(reader.op, Add | Fire):
            continue
        for position, name in enumerate(reader.inputs):
            again = "" if name not in reader.inputs[:position] else f".{position}"
            new = f"{reader.name}.{name}{again}"
            source = graph[name]
            match source.op:
                case AvgPool2d(kernel=kernel, stride=stride) if _is_signal(graph, source.inputs[0]):
                    op = depthwise(found[name][0], kernel, stride, 1.0 / (kernel[0] * kernel[1]))
                    node = Node(new, op, source.inputs)
                case _ if _is_signal(graph, name):
                    node = Node(new, diagonal(found[name], 1.0), (name,))
                case _:
                    continue
            graph = insert(graph, node, reader=reader.name, position=position)
    return without_unread(graph)


def _is_signal(graph: Graph, name: str) -> bool:
    """Say whether a node emits spikes or the image, possibly flattened."""
    return isinstance(through_flatten(graph, name).op, Fire | Input | Normalize)
