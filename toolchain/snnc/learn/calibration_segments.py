"""A traced spiking network in segments: what stands between spikes and the next spikes.

The segment of a spiking layer is everything that its current is computed from, back to the
images and to the spikes of layers before it. It holds no spiking layer, so it works on
every row of the merged batch alone, except for batch norm, whose statistics are taken over
all rows and have to be known before its output is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from snnc.learn.neurons import Fire

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A function cut out of a traced network, from the values of some nodes to others'."""

    reads: tuple[fx.Node, ...]
    gives: tuple[fx.Node, ...]
    module: fx.GraphModule

    def run(self, values: Mapping[fx.Node, Tensor]) -> dict[fx.Node, Tensor]:
        """Return the values of `gives`, from those of `reads`."""
        results = self.module(*(values[node] for node in self.reads))
        return dict(zip(self.gives, results, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """What drives one spiking layer, in the order in which it is worked out.

    `levels` are the batch norms without known statistics: those of a level need the
    statistics of the levels before, and nothing of one another. Running `heads[i]` gives
    the inputs of the batch norms of level i; the last head gives what `tail` turns into the
    current (without unknown batch norms that is the current itself).
    """

    fire: fx.Node
    current: fx.Node
    spikes: tuple[fx.Node, ...]  # the spiking layers that it reads
    levels: tuple[tuple[fx.Node, ...], ...]
    heads: tuple[Part, ...]  # as many as levels, at least one
    tail: Part
    largest: int  # numbers of the largest value in it, for one row


def segments(body: fx.GraphModule, shapes: Mapping[fx.Node, torch.Size]) -> tuple[Segment, ...]:
    """Return the segment of each spiking layer, in execution order."""
    known: set[fx.Node] = set()
    found: list[Segment] = []
    for node in body.graph.nodes:
        if isinstance(_module(body, node), Fire):
            found.append(_segment(body, node, known, shapes))
            known.update(norm for level in found[-1].levels for norm in level)
    return tuple(found)


def row_shapes(body: fx.GraphModule, row: Tensor) -> dict[fx.Node, torch.Size]:
    """Return the shape of each node's value for one row (1, ...), without the row."""
    with torch.no_grad():
        ShapeProp(body).propagate(row)
    return {
        node: node.meta["tensor_meta"].shape[1:]
        for node in body.graph.nodes
        if isinstance(getattr(node.meta.get("tensor_meta"), "shape", None), torch.Size)
    }


def _segment(
    body: fx.GraphModule,
    fire: fx.Node,
    known: Collection[fx.Node],
    shapes: Mapping[fx.Node, torch.Size],
) -> Segment:
    (current,) = fire.all_input_nodes
    ends = {
        node
        for node in body.graph.nodes
        if node.op == "placeholder" or isinstance(_module(body, node), Fire)
    }
    inside = _needed([current], ends)
    levels = _levels(body, [n for n in body.graph.nodes if n in inside], ends, known)
    cuts = [tuple(_input(norm) for norm in level) for level in levels] or [(current,)]
    heads = tuple(_cut(body, dict.fromkeys(wanted), ends) for wanted in cuts)
    return Segment(
        fire=fire,
        current=current,
        spikes=tuple(n for n in body.graph.nodes if n in inside & ends and n.op != "placeholder"),
        levels=levels,
        heads=heads,
        tail=_cut(body, [current], ends | set(cuts[-1])),
        largest=max(shapes[node].numel() for node in inside if node in shapes),
    )


def _levels(
    body: fx.GraphModule,
    nodes: Sequence[fx.Node],
    ends: Collection[fx.Node],
    known: Collection[fx.Node],
) -> tuple[tuple[fx.Node, ...], ...]:
    """Return the unknown batch norms among `nodes`, by how many of them stand before each."""
    depth: dict[fx.Node, int] = {}
    levels: list[list[fx.Node]] = []
    for node in nodes:
        before = () if node in ends else node.all_input_nodes
        depth[node] = max((depth[n] for n in before), default=0)
        if node not in known and isinstance(_module(body, node), BATCH_NORMS):
            if depth[node] == len(levels):
                levels.append([])
            levels[depth[node]].append(node)
            depth[node] += 1
    return tuple(map(tuple, levels))


def _cut(body: fx.GraphModule, wanted: Iterable[fx.Node], given: Collection[fx.Node]) -> Part:
    """Return the part of a network that computes `wanted` from what it needs of `given`."""
    wanted = tuple(wanted)
    inside = _needed(wanted, given)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    reads = tuple(node for node in body.graph.nodes if node in inside and node in given)
    for node in reads:
        copies[node] = graph.placeholder(node.name)
    for node in body.graph.nodes:
        if node in inside and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in wanted))
    return Part(reads=reads, gives=wanted, module=fx.GraphModule(body, graph).eval())


def _needed(wanted: Iterable[fx.Node], given: Collection[fx.Node]) -> set[fx.Node]:
    """Return the nodes that `wanted` is computed from, back to `given`, both included."""
    found: set[fx.Node] = set()
    waiting = list(wanted)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(() if node in given else node.all_input_nodes)
    return found


def _input(norm: fx.Node) -> fx.Node:
    (value,) = norm.all_input_nodes
    return value


def _module(body: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return body.get_submodule(str(node.target)) if node.op == "call_module" else None
