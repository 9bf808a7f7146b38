"""The rules of the two forms. A graph or program that passed has no surprises left.

Every broken rule is listed, not only the first; shapes are only followed up to the first
node that breaks one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidGraph, InvalidProgram, Issue, unreachable
from snnc.ir.geometry import convolved, pooled
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
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import Csr, Shape, Weight, stored, unpack

EXACT = 1 << 53  # sums of integers below this are exact in float64, which simulators use
TENSOR_LIMIT = 1 << 31  # elements of one feature map or weight: more is a damaged file


class _Broken(Exception):
    """A rule is broken at one node: (problem, remedy, code)."""


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
                raise _Broken(f"its output has shape {shape}", "check sizes and strides", "shape")
        except _Broken as broken:
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
            yield from _weight_issues(node.name, op.weight)
            yield from _finite(node.name, bias=op.bias)
        case BatchNorm():
            yield from _finite(
                node.name, gain=op.gain, shift=op.shift, mean=op.mean, var=op.var, eps=op.eps
            )
            if (op.var < 0).any() or op.eps < 0 or ((op.var + op.eps) == 0).any():
                yield Issue(node.name, "var + eps is not positive", "retrain", "variance")
        case Normalize():
            yield from _finite(node.name, mean=op.mean, std=op.std)
            if not (op.std > 0).all():
                yield Issue(node.name, "std is not positive", "give a positive std", "std")
        case Fire():
            yield from _finite(node.name, threshold=op.threshold)
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


def _finite(name: str, **values: npt.ArrayLike) -> Iterator[Issue]:
    for field, value in values.items():
        if not np.isfinite(value).all():
            yield Issue(name, f"{field} holds NaN or infinity", "retrain or repair it", "finite")


def _weight_issues(name: str, weight: Weight[Any]) -> Iterator[Issue]:
    if np.issubdtype(stored(weight).dtype, np.floating):
        yield from _finite(name, weight=stored(weight))
    if isinstance(weight, Csr) and (problem := _csr_problem(weight)):
        yield Issue(name, f"its sparse weight {problem}", "write the file again", "sparse")


def _csr_problem(weight: Csr[Any]) -> str | None:
    columns = prod(weight.shape[1:])
    if weight.indptr.shape != (weight.shape[0] + 1,) or len(weight.data) != len(weight.indices):
        return "has arrays of the wrong length"
    if weight.indptr[0] != 0 or weight.indptr[-1] != len(weight.data):
        return "has row pointers that do not cover the data"
    if (np.diff(weight.indptr) < 0).any():
        return "has descending row pointers"
    if len(weight.indices) and not 0 <= weight.indices.min() <= weight.indices.max() < columns:
        return f"points outside its {columns} columns"
    ascending = np.diff(weight.indices) > 0
    ends = weight.indptr[1:-1]
    ascending[ends[(ends > 0) & (ends < len(weight.indices))] - 1] = True  # a new row starts
    return None if ascending.all() else "repeats a column or is not sorted"


def _shape(op: Op, sources: list[Shape]) -> Shape:
    """Return the output shape, or raise `_Broken` where the inputs do not fit."""
    match op:
        case Input(shape=shape):
            if len(shape) not in (1, 3):
                raise _Broken(f"has shape {shape}", "use (C, H, W) or (neurons,)", "shape")
            return shape
        case Normalize() | BatchNorm():
            (source,) = sources
            values = (op.mean, op.std) if isinstance(op, Normalize) else (op.mean, op.gain)
            if any(value.shape != (source[0],) for value in values):
                raise _Broken(
                    f"has {op.mean.size} channels, its input {source[0]}", "match them", "shape"
                )
            return source
        case Conv2d():
            (source,) = sources
            return _convolved(op.weight, op.stride, op.padding, op.groups, op.bias.shape, source)
        case Linear():
            (source,) = sources
            return _multiplied(op.weight, op.bias.shape, source)
        case AvgPool2d(kernel=kernel, stride=stride):
            (source,) = sources
            if len(source) != 3 or min(*kernel, *stride) < 1:
                raise _Broken(f"pools {source} by {kernel}", "pool a (C, H, W) map", "shape")
            return pooled(source, kernel, stride)
        case Add():
            if len(set(sources)) != 1:
                raise _Broken(f"adds maps of shapes {sources}", "make them equal", "shape")
            return sources[0]
        case Flatten():
            return (prod(sources[0]),)
        case Identity() | Relu() | Fire():
            return sources[0]
        case Readout():
            return (prod(sources[0]),)
        case _:
            unreachable(op)


def _convolved(
    weight: Weight[Any], stride: Shape, padding: Shape, groups: int, bias: Shape, source: Shape
) -> Shape:
    if len(weight.shape) != 4 or len(source) != 3:
        raise _Broken(
            f"convolves {source} with a weight of shape {weight.shape}",
            "use (C, H, W) maps and (out, in / groups, kh, kw) weights",
            "shape",
        )
    if groups < 1 or weight.shape[0] % groups or weight.shape[1] * groups != source[0]:
        raise _Broken(
            f"weight {weight.shape} with groups={groups} does not fit {source[0]} channels",
            "match the channels",
            "shape",
        )
    if bias != (weight.shape[0],):
        raise _Broken(f"bias has shape {bias}", f"give {weight.shape[0]} values", "shape")
    if min(stride) < 1 or min(padding) < 0:
        raise _Broken(f"stride {stride}, padding {padding}", "use stride >= 1", "shape")
    return convolved(source, weight.shape, stride, padding)


def _multiplied(weight: Weight[Any], bias: Shape, source: Shape) -> Shape:
    if len(weight.shape) != 2 or len(source) != 1 or weight.shape[1] != source[0]:
        raise _Broken(
            f"weight {weight.shape} does not fit an input of shape {source}",
            "flatten maps first and match the sizes",
            "shape",
        )
    if bias != (weight.shape[0],):
        raise _Broken(f"bias has shape {bias}", f"give {weight.shape[0]} values", "shape")
    return (weight.shape[0],)


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


def check_program(program: Program) -> Program:
    """Return the program if it keeps the rules of the integer form, else raise."""
    issues = list(_program_issues(program))
    if issues:
        raise InvalidProgram(issues)
    return program


def _program_issues(program: Program) -> Iterator[Issue]:
    coding = program.input
    if len(coding.shape) not in (1, 3) or min(coding.shape, default=0) < 1:
        yield Issue(INPUT, f"has shape {coding.shape}", "use (C, H, W) or (neurons,)", "shape")
        return
    if coding.levels < 1 or coding.zero_point.shape != coding.shape[:1]:
        yield Issue(INPUT, "its coding does not fit its shape", "quantize again", "coding")
    if program.steps < 1:
        yield Issue("program", f"steps is {program.steps}", "run at least one step", "steps")
    if not program.layers and not isinstance(program.readout, Accumulator):
        yield Issue("program", "has no layer", "compile a network", "empty")
        return
    peaks = {INPUT: int(np.abs([coding.zero_point, coding.levels - coding.zero_point]).max())}
    known: dict[str, Shape] = {INPUT: coding.shape}
    for population in program.populations:
        if population.name in known:
            yield Issue(population.name, "the name is taken", "rename the layer", "name")
        yield from _population_issues(population, known, peaks, program.steps)
        known[population.name] = population.shape
        peaks[population.name] = 1
    if program.class_names and len(program.class_names) != program.classes:
        yield Issue(
            program.populations[-1].name,
            f"{program.classes} logits for {len(program.class_names)} class names",
            "name every class or none",
            "classes",
        )


def _population_issues(
    population: Layer | Accumulator, known: dict[str, Shape], peaks: dict[str, int], steps: int
) -> Iterator[Issue]:
    name = population.name
    if not population.shape or min(population.shape) < 1 or len(population.shape) not in (1, 3):
        yield Issue(name, f"has shape {population.shape}", "quantize again", "shape")
        return
    if population.bias.shape != population.shape[:1]:
        yield Issue(name, f"bias has shape {population.bias.shape}", "quantize again", "shape")
    if not population.synapses:
        yield Issue(name, "has no synapses", "remove the layer", "empty")
    if isinstance(population, Layer):
        if population.threshold < 1:
            yield Issue(name, f"threshold is {population.threshold}", "use 1 or more", "threshold")
        if not 0 <= population.decay <= 4095:
            yield Issue(name, f"decay is {population.decay}", "use 0 to 4095", "decay")
    if len({bundle.name for bundle in population.synapses}) < len(population.synapses):
        yield Issue(name, "two of its bundles share a name", "rename one", "name")
    total = float(np.abs(population.bias.astype(np.float64)).max(initial=0.0))
    for bundle in population.synapses:
        if bundle.source not in known:
            yield Issue(name, f"reads {bundle.source!r}, which is not before it", "fix", "source")
            continue
        if problems := list(_weight_issues(bundle.name, bundle.weight)):
            yield from problems
            continue
        try:
            shape = _target_shape(bundle, known[bundle.source])
            if shape != population.shape:
                raise _Broken(
                    f"{bundle.name} yields {shape}, the layer is {population.shape}",
                    "quantize again",
                    "shape",
                )
        except _Broken as broken:
            yield Issue(name, *broken.args)
            continue
        rows = np.abs(unpack(bundle.weight).astype(np.float64)).reshape(bundle.weight.shape[0], -1)
        total += float(rows.sum(axis=1).max(initial=0.0)) * peaks[bundle.source]
    if total * steps >= EXACT:
        yield Issue(
            name,
            f"currents may sum to {total * steps:g} in {steps} steps",
            "use smaller weights",
            "overflow",
        )


def _target_shape(bundle: Synapses, source: Shape) -> Shape:
    bias = bundle.weight.shape[:1]
    match bundle.kind:
        case FullyConnected():
            return _multiplied(bundle.weight, bias, (prod(source),))
        case Convolution(stride=stride, padding=padding, groups=groups):
            return _convolved(bundle.weight, stride, padding, groups, bias, source)
        case _:
            unreachable(bundle.kind)
