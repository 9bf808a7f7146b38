"""Give every layer of neurons synapses of its own, where several read one sum of real numbers.

Between the blocks of a pre-activation residual network (He et al., "Identity Mappings in Deep
Residual Networks", ECCV 2016) runs a sum of real numbers, which the next neurons and the next
sum both read. A chip carries spikes only, so what travels must be the spikes below the sum,
and each reader needs the weights that turn them into its share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from snnc.errors import InvalidGraph, Issue
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
)
from snnc.passes.copies import too_many, unused_name, with_copies


def distribute_sums(graph: Graph) -> Graph:
    """Copy what is linear for each layer of neurons that reads it, down to the spikes.

    With linear A and B, an offset c and neurons f and g, in floats up to rounding:

        y = A s + B r + c,   f(y), g(y)   =   f(A s + B r + c),   g(A' s + B' r + c')

    where A' = A, B' = B and c' = c are nodes of their own, so that the passes after this one
    may fold another batch norm or threshold into them, or add to them:

        BN_g(y) = g A s + g B r + (g (c - mean) + shift)

    The first reader keeps the nodes, the copies of later ones are named `reader.source`; a
    sum reads its own nodes before copies, which share their arrays until a pass changes
    them. The provenance lists the copies, see `passes.copies`: among n blocks in a row, what
    the first adds is read by all n and by what follows.

    A copy that reads the image shares a scale with weights of spikes, beside which its own are
    small, since codes are up to `levels` large: such a layer wants calibration, or fewer levels.

    Raises:
        InvalidGraph: more layers than `passes.copies.USES` read the output of one before it
            spikes, or a layer with weights reads another one or a sum.
    """
    kinds = _kinds(graph)
    reads = _reads(graph, kinds)
    issues = [*_unspiked(graph, kinds), *_too_many(graph, reads)]
    if issues:
        raise InvalidGraph(issues)
    if all(reads[name] <= 1 for name, real in kinds.items() if real):
        return graph
    copying = _Copying(graph, kinds)
    for node in graph.nodes:
        if not kinds[node.name]:
            copying.add(node)
    return with_copies(replace(graph, nodes=tuple(copying.made.values())), copying.copies)


def _kinds(graph: Graph) -> dict[str, bool]:
    """Say of each node whether it is real: neither spikes nor the image, flattened or pooled."""
    found: dict[str, bool] = {}
    for node in graph.nodes:
        match node.op:
            case Input() | Normalize() | Fire() | Relu() | Readout():
                found[node.name] = False
            case Flatten() | AvgPool2d() | Identity():
                found[node.name] = found[node.inputs[0]]
            case _:
                found[node.name] = True
    return found


def _reads(graph: Graph, real: Mapping[str, bool]) -> dict[str, int]:
    """Count the ways from each node to the neurons or the readout that read it as numbers."""
    found = {node.name: 0 for node in graph.nodes}
    for node in reversed(graph.nodes):
        for source in node.inputs:
            found[source] += found[node.name] if real[node.name] else 1
    return found


def _unspiked(graph: Graph, real: Mapping[str, bool]) -> list[Issue]:
    """Return an issue for each layer with weights that reads numbers instead of spikes.

    A batch norm of spikes is left to `fold_batchnorm`, which has more to say.
    """
    found = []
    for node in graph.nodes:
        if not isinstance(node.op, Conv2d | Linear):
            continue
        origin = graph[node.inputs[0]]
        while isinstance(origin.op, Flatten | AvgPool2d | BatchNorm | Identity):
            origin = graph[origin.inputs[0]]
        if real[origin.name]:
            found.append(
                Issue(
                    node.name,
                    f"reads {origin.name}, which does not spike",
                    "put a spiking layer (a ReLU before conversion) between two linear layers",
                    "order",
                )
            )
    return found


def _too_many(graph: Graph, reads: Mapping[str, int]) -> list[Issue]:
    return [
        issue
        for node in graph.nodes
        if isinstance(node.op, Conv2d | Linear)
        for issue in too_many(
            node,
            node.op,
            reads[node.name],
            f"{reads[node.name]} layers read it before it spikes",
            "put a spiking layer after the sum of each block, or use fewer blocks in a row",
        )
    ]


class _Copying:
    """One walk over a graph: a real node is made when, and as often as, its reader is."""

    def __init__(self, graph: Graph, real: Mapping[str, bool]) -> None:
        self.named = {node.name: node for node in graph.nodes}
        self.real = real
        self.taken = set(self.named)
        self.made: dict[str, Node] = {}  # the new nodes, in order
        self.copies: dict[str, str] = {}  # of a layer with weights -> its original

    def add(self, reader: Node) -> None:
        """Add a node that is not real, and what it reads."""
        inputs = tuple(self._read(name, reader.name)[0] for name in reader.inputs)
        self._append(replace(reader, inputs=inputs))

    def _read(self, name: str, reader: str) -> tuple[str, bool]:
        """Add what `reader` reads as `name`; return its new name and whether it is a copy.

        A sum is one if it reads nothing but copies.
        """
        node = self.named[name]
        if not self.real[name]:
            return name, False
        made = [self._read(source, reader) for source in node.inputs]
        new = name if name not in self.made else unused_name(f"{reader}.{name}", self.taken)
        is_copy = new != name
        if isinstance(node.op, Add):
            made.sort(key=lambda each: each[1])  # stable
            is_copy = all(copy for _, copy in made)
        elif not isinstance(node.op, Conv2d | Linear):
            is_copy = made[0][1]
        elif is_copy:
            self.copies[new] = name
        self._append(Node(new, node.op, tuple(source for source, _ in made)))
        return new, is_copy

    def _append(self, node: Node) -> None:
        self.made[node.name] = node
        self.taken.add(node.name)
