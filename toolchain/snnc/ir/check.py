"""The rules of the float form. A graph that passed has no surprises left.

Every broken rule is listed, not only the first; shapes are only followed up to the first
node that breaks one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod

import numpy as np

from snnc.errors import InvalidGraph, Issue, unreachable
from snnc.ir.geometry import pooled
from snnc.ir.graph import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Decision,
    Fire,
    Flatten,
    Granularity,
    Graph,
    Identity,
    Input,
    Linear,
    Node,
    Normalize,
    Op,
    Readout,
    Relu,
)
from snnc.ir.rules import (
    Broken,
    convolved_shape,
    finite_issues,
    multiplied_shape,
    weight_issues,
)
from snnc.ir.weights import Shape

TENSOR_LIMIT = 1 << 31  # elements of one feature map or weight: more is a damaged file


def check_graph(graph: Graph) -> Graph:
    """Return the graph if it keeps the rules of the float form, else raise `InvalidGraph`."""
    issues = list(_graph_issues(graph))
    if issues:
        raise InvalidGraph(issues)
    return graph


def shapes(graph: Graph) -> dict[str, Shape]:
    """Map each node of a valid graph to the shape of its output."""
    found: dict[str, Shape] = {}
    for node in graph.nodes:
        found[node.name] = _shape(node.op, [found[source] for source in node.inputs])
    return found


def _graph_issues(graph: Graph) -> Iterator[Issue]:
    wiring = list(_wiring_issues(graph))
    yield from wiring
    for node in graph.nodes:
        yield from _value_issues(node)
    kinds = {type(node.op) for node in graph.nodes}
    if Relu in kinds and Fire in kinds:
        first = next(node.name for node in graph.nodes if isinstance(node.op, Relu))
        yield Issue(
            first, "a ReLU in a spiking network", "convert every ReLU to a spiking layer", "mixture"
        )
    if graph.steps < 1:
        yield Issue("graph", f"steps is {graph.steps}", "run at least one step", "steps")
    elif graph.steps > 1 and Fire not in kinds:
        yield Issue("graph", "no layer spikes", "use steps=1 for an ordinary network", "steps")
    if wiring:
        return
    found: dict[str, Shape] = {}
    for node in graph.nodes:
        try:
            shape = _shape(node.op, [found[source] for source in node.inputs])
            if not shape or min(shape) < 1 or prod(shape) > TENSOR_LIMIT:
                raise Broken(f"its output has shape {shape}", "check sizes and strides", "shape")
        except Broken as broken:
            yield Issue(node.name, *broken.args)
            return
        found[node.name] = shape
    yield from _threshold_issues(graph, found)
    yield from _readout_issues(graph, found)


def _wiring_issues(graph: Graph) -> Iterator[Issue]:
    names = [node.name for node in graph.nodes]
    for name, count in Counter(names).items():
        if count > 1:
            yield Issue(name, f"{count} nodes have this name", "rename all but one", "name")
        if not name:
            yield Issue("graph", "a node has an empty name", "name every node", "name")
    for kind, place in ((Input, 0), (Readout, -1)):
        found = [node.name for node in graph.nodes if isinstance(node.op, kind)]
        if len(found) != 1 or found[0] != names[place]:
            where = "first" if place == 0 else "last"
            yield Issue(
                "graph", f"has {len(found)} {kind.__name__} nodes", f"use one, {where}", "ends"
            )
    read = {source for node in graph.nodes for source in node.inputs}
    seen: set[str] = set()
    for node in graph.nodes:
        for source in node.inputs:
            if source not in names:
                yield Issue(node.name, f"reads {source!r}, which does not exist", "fix", "source")
            elif source not in seen:
                yield Issue(
                    node.name,
                    f"reads {source!r}, which comes later: a cycle or a wrong order",
                    "list nodes in topological order; recurrent networks have no graph",
                    "cycle",
                )
        fewest, most = _arity(node.op)
        if not fewest <= len(node.inputs) <= most:
            yield Issue(
                node.name,
                f"{type(node.op).__name__} reads {len(node.inputs)} nodes",
                f"give it {fewest if fewest == most else 'two or more'}",
                "arity",
            )
        if node.name not in read and not isinstance(node.op, Readout):
            yield Issue(node.name, "nothing reads it", "remove it or connect it", "unused")
        seen.add(node.name)


def _arity(op: Op) -> tuple[int, int]:
    match op:
        case Input():
            return 0, 0
        case Add():
            return 2, 1 << 16
        case _:
            return 1, 1


def _value_issues(node: Node) -> Iterator[Issue]:
    op = node.op
    match op:
        case Conv2d() | Linear():
            yield from weight_issues(node.name, op.weight)
            yield from finite_issues(node.name, bias=op.bias)
        case BatchNorm():
            yield from finite_issues(
                node.name, gain=op.gain, shift=op.shift, mean=op.mean, var=op.var, eps=op.eps
            )
            if (op.var < 0).any() or op.eps < 0 or ((op.var + op.eps) == 0).any():
                yield Issue(node.name, "var + eps is not positive", "retrain", "variance")
        case Normalize():
            yield from finite_issues(node.name, mean=op.mean, std=op.std)
            if not (op.std > 0).all():
                yield Issue(node.name, "std is not positive", "give a positive std", "std")
        case Fire():
            yield from finite_issues(node.name, threshold=op.threshold)
            if not (op.threshold > 0).all():
                yield Issue(
                    node.name,
                    f"threshold reaches {np.min(op.threshold):g}",
                    "thresholds must be positive: balance them first",
                    "threshold",
                )
            if not 0 < op.keep <= 1:
                yield Issue(
                    node.name, f"keep is {op.keep:g}", "use 0 < keep <= 1 (1 is no leak)", "keep"
                )
        case Input() | AvgPool2d() | Add() | Flatten() | Identity() | Relu() | Readout():
            return
        case _:
            unreachable(op)


def _shape(op: Op, sources: list[Shape]) -> Shape:
    """Return the output shape, or raise `Broken` where the inputs do not fit."""
    match op:
        case Input(shape=shape):
            if len(shape) not in (1, 3):
                raise Broken(f"has shape {shape}", "use (C, H, W) or (neurons,)", "shape")
            return shape
        case Normalize() | BatchNorm():
            (source,) = sources
            values = (op.mean, op.std) if isinstance(op, Normalize) else (op.mean, op.gain)
            if any(value.shape != (source[0],) for value in values):
                raise Broken(
                    f"has {op.mean.size} channels, its input {source[0]}", "match them", "shape"
                )
            return source
        case Conv2d():
            (source,) = sources
            return convolved_shape(
                op.weight, op.stride, op.padding, op.groups, op.bias.shape, source
            )
        case Linear():
            (source,) = sources
            return multiplied_shape(op.weight, op.bias.shape, source)
        case AvgPool2d(kernel=kernel, stride=stride):
            (source,) = sources
            if len(source) != 3 or min(*kernel, *stride) < 1:
                raise Broken(f"pools {source} by {kernel}", "pool a (C, H, W) map", "shape")
            return pooled(source, kernel, stride)
        case Add():
            if len(set(sources)) != 1:
                raise Broken(f"adds maps of shapes {sources}", "make them equal", "shape")
            return sources[0]
        case Flatten():
            return (prod(sources[0]),)
        case Identity() | Relu() | Fire():
            return sources[0]
        case Readout():
            return (prod(sources[0]),)
        case _:
            unreachable(op)


def _threshold_issues(graph: Graph, found: dict[str, Shape]) -> Iterator[Issue]:
    for node in graph.nodes:
        if not isinstance(node.op, Fire):
            continue
        shape = found[node.name]
        wanted = {
            Granularity.LAYER: (),
            Granularity.CHANNEL: shape[:1],
            Granularity.NEURON: shape,
        }[node.op.granularity]
        if node.op.threshold.shape != wanted:
            yield Issue(
                node.name,
                f"threshold has shape {node.op.threshold.shape}",
                f"one per {node.op.granularity.value} has shape {wanted}",
                "threshold",
            )


def _readout_issues(graph: Graph, found: dict[str, Shape]) -> Iterator[Issue]:
    last = graph.nodes[-1]
    classes = found[last.name][0]
    if graph.class_names and len(graph.class_names) != classes:
        yield Issue(
            last.name,
            f"{classes} logits for {len(graph.class_names)} class names",
            "name every class or none",
            "classes",
        )
    source = graph[last.inputs[0]]
    while isinstance(source.op, Flatten | Identity):
        source = graph[source.inputs[0]]
    assert isinstance(last.op, Readout)  # noqa: S101 - made sure of by _wiring_issues
    if (last.op.decision is Decision.SPIKES) != isinstance(source.op, Fire):
        yield Issue(
            last.name,
            f"decides by {last.op.decision.value} but reads {type(source.op).__name__}",
            "read spikes from a spiking layer, the membrane from any other",
            "readout",
        )
