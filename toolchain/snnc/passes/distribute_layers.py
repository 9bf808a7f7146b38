"""Let a layer that reads a sum of spikes read each of them.

Blocks that add spikes to spikes ("Deep Residual Learning in Spiking Neural Networks", Fang et
al., NeurIPS 2021) send counts into the next layer, which no binary spike can carry.
"""

from __future__ import annotations

from dataclasses import replace

from snnc.errors import InvalidGraph
from snnc.ir.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Identity,
    Input,
    Linear,
    Node,
    Normalize,
    Relu,
    Synaptic,
)
from snnc.ir.weights import floats
from snnc.passes.copies import too_many, unused_name, with_copies
from snnc.passes.rewrite import without_unread

Path = tuple[str, ...]  # from what spikes to the last node before the layer, without the sums


def distribute_layers(graph: Graph) -> Graph:
    """Copy a layer with weights for each term of a sum of spikes that it reads.

        W P (s + r) + b  =  (W P s + b) + W P r      with P any pooling and flattening between

    The first copy keeps name and bias, the others are named `layer.term` and their sum
    `layer.sum`. The provenance lists the copies, see `passes.copies`.

    Raises:
        InvalidGraph: a sum has more terms than `passes.copies.USES`.
    """
    terms = _terms(graph)
    layers = [
        (node, node.op)
        for node in graph.nodes
        if isinstance(node.op, Conv2d | Linear) and terms[node.inputs[0]] > 1
    ]
    issues = [
        issue
        for node, op in layers
        for issue in too_many(
            node,
            op,
            terms[node.inputs[0]],
            f"the sum it reads has {terms[node.inputs[0]]} terms",
            "put a spiking layer after the sum of some blocks",
        )
    ]
    if issues:
        raise InvalidGraph(issues)
    copies: dict[str, str] = {}
    for node, op in layers:
        graph, more = _distributed(graph, node, op)
        copies.update(more)
    return with_copies(without_unread(graph), copies) if copies else graph


def _terms(graph: Graph) -> dict[str, int]:
    """Count the terms of each sum of spikes or images; 1 for each of those, 0 for numbers."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        match node.op:
            case Input() | Normalize() | Fire() | Relu():
                found[node.name] = 1
            case Flatten() | AvgPool2d() | Identity():
                found[node.name] = found[node.inputs[0]]
            case Add():
                counts = [found[source] for source in node.inputs]
                found[node.name] = sum(counts) if all(counts) else 0
            case _:
                found[node.name] = 0
    return found


def _distributed(graph: Graph, layer: Node, op: Synaptic) -> tuple[Graph, dict[str, str]]:
    """Return the graph with a copy of the layer for each term, and the names of the copies."""
    taken = {node.name for node in graph.nodes}

    def unique(wanted: str) -> str:
        taken.add(name := unused_name(wanted, taken))
        return name

    added: list[Node] = []
    names: list[str] = []
    for path in _paths(graph, layer.inputs[0]):
        names.append(unique(f"{layer.name}.{path[0]}") if names else layer.name)
        source = path[0]
        for between in path[1:]:
            added.append(Node(unique(f"{names[-1]}.{between}"), graph[between].op, (source,)))
            source = added[-1].name
        each = op if len(names) == 1 else replace(op, bias=floats(0.0 * op.bias))
        added.append(Node(names[-1], each, (source,)))
    added.append(Node(unique(f"{layer.name}.sum"), Add(), tuple(names)))
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name == layer.name:
            nodes += added
        else:
            inputs = tuple(added[-1].name if i == layer.name else i for i in node.inputs)
            nodes.append(replace(node, inputs=inputs))
    return replace(graph, nodes=tuple(nodes)), dict.fromkeys(names[1:], layer.name)


def _paths(graph: Graph, name: str) -> list[Path]:
    node = graph[name]
    match node.op:
        case Add():
            return [path for source in node.inputs for path in _paths(graph, source)]
        case Flatten() | AvgPool2d() | Identity():
            return [(*path, name) for path in _paths(graph, node.inputs[0])]
        case _:
            return [(name,)]
