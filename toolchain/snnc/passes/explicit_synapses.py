"""Give every connection into a neuron weights of its own."""

from __future__ import annotations

from snnc.ir.check import shapes
from snnc.ir.graph import (
    Add,
    AvgPool2d,
    BatchNorm,
    Decision,
    Fire,
    Flatten,
    Graph,
    Input,
    Node,
    Normalize,
    Readout,
    Relu,
    consumers,
)
from snnc.passes.copies import unused_name
from snnc.passes.rewrite import diagonal, insert


def explicit_synapses(graph: Graph) -> Graph:
    """Put weights where spikes or the image reach a sum, neurons or the logits without any.

    A residual shortcut becomes the identity, with I the 1 x 1 depthwise kernel of ones (a
    diagonal matrix for a flat map):   s = I s

    The same after pooling, which `fold_avgpool` then folds into I, and before a batch norm
    on the way there, which `fold_batchnorm` does:   P s = I P s,   BN(s) = BN(I s)

    A ReLU counts as neurons, so that `quantize` can say of an ordinary network that it is one.
    New nodes are named `reader.source`, with a number if that is taken.
    """
    found = shapes(graph)
    for reader in graph.nodes:
        if not _reads_currents(graph, reader):
            continue
        for position, name in enumerate(reader.inputs):
            if not _is_signal(graph, name):
                continue
            new = unused_name(f"{reader.name}.{name}", {node.name for node in graph.nodes})
            node = Node(new, diagonal(found[name], 1.0), (name,))
            graph = insert(graph, node, reader=reader.name, position=position)
    return graph


def _reads_currents(graph: Graph, reader: Node) -> bool:
    """Say whether what a node reads is added, moves membranes, or is the logits."""
    match reader.op:
        case Add() | Fire() | Relu() | Readout(decision=Decision.MEMBRANE):
            return True
        case BatchNorm():
            return all(_leads_to_currents(graph, user) for user in consumers(graph)[reader.name])
        case _:
            return False


def _leads_to_currents(graph: Graph, node: Node) -> bool:
    if isinstance(node.op, Flatten | AvgPool2d):
        return all(_leads_to_currents(graph, user) for user in consumers(graph)[node.name])
    return _reads_currents(graph, node)


def _is_signal(graph: Graph, name: str) -> bool:
    """Say whether a node emits spikes or the image, possibly pooled or flattened."""
    node = graph[name]
    while isinstance(node.op, Flatten | AvgPool2d):
        node = graph[node.inputs[0]]
    return isinstance(node.op, Fire | Relu | Input | Normalize)
