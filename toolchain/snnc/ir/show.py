"""Print a graph or a program as stable text, one node or layer a line, for people and diffs."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from snnc.errors import unreachable
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
    Normalize,
    Op,
    Readout,
    Relu,
)
from snnc.ir.program import (
    FORGET,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import Csr, IntArray, Shape, Weight, density


def show(graph: Graph) -> str:
    """Return the graph as text.

    >>> from snnc.ir.graph import Decision, Node
    >>> nodes = (Node("input", Input(shape=(2,)), ()),
    ...          Node("out", Readout(decision=Decision.MEMBRANE), ("input",)))
    >>> print(show(Graph(nodes=nodes, steps=1)))
    graph steps=1 coding=direct
      input = Input -> (2)
      out = Readout(input) decision=membrane -> (2)
    """
    found = shapes(graph)
    lines = [f"graph steps={graph.steps} coding={graph.coding.value}"]
    for node in graph.nodes:
        sources = f"({', '.join(node.inputs)})" if node.inputs else ""
        details = "".join(f" {detail}" for detail in _details(node.op))
        lines.append(
            f"  {node.name} = {type(node.op).__name__}{sources}{details} -> "
            f"{_shape(found[node.name])}"
        )
    return "\n".join(lines)


def show_program(program: Program) -> str:
    """Return the program as text."""
    coding = program.input
    lines = [
        f"program steps={program.steps}",
        f"  input levels={coding.levels} zero_point={coding.zero_point.tolist()} -> "
        f"{_shape(coding.shape)}",
    ]
    for population in program.populations:
        match population:
            case Layer():
                what = (
                    f"threshold={population.threshold} decay={population.decay} "
                    f"reset={population.reset.value} bias={_range(population.bias)}"
                    + _unless(FORGET, current_decay=population.current_decay)
                )
            case Accumulator():
                what = f"accumulates bias={_range(population.bias)}"
            case _:
                unreachable(population)
        lines.append(
            f"  {population.name}: {what} scale={population.scale:.6g} -> "
            f"{_shape(population.shape)}"
        )
        lines += [f"    {_bundle(bundle)}" for bundle in population.synapses]
    return "\n".join(lines)


def _details(op: Op) -> list[str]:
    match op:
        case Conv2d():
            window = f"kernel={_shape(op.weight.shape)} stride={_shape(op.stride)}"
            return [
                f"{window} padding={_shape(op.padding)} groups={op.groups}",
                _weight(op.weight),
            ]
        case Linear():
            return [_weight(op.weight)]
        case AvgPool2d():
            return [f"kernel={_shape(op.kernel)} stride={_shape(op.stride)}"]
        case Fire():
            level = (
                f"{op.threshold.min():.6g}"
                if op.threshold.size == 1
                else f"{op.threshold.min():.6g}..{op.threshold.max():.6g}"
            )
            per = f"per {op.granularity.value}"
            return [f"threshold={level} {per} reset={op.reset.value} keep={op.keep:g}"]
        case Readout():
            return [f"decision={op.decision.value}"]
        case Input() | Normalize() | BatchNorm() | Add() | Flatten() | Identity() | Relu():
            return []
        case _:
            unreachable(op)


def _bundle(bundle: Synapses) -> str:
    match bundle.kind:
        case Convolution(stride=stride, padding=padding, groups=groups):
            what = (
                f"Convolution({bundle.source}) kernel={_shape(bundle.weight.shape)} "
                f"stride={_shape(stride)} padding={_shape(padding)} groups={groups}"
            )
        case FullyConnected():
            what = f"FullyConnected({bundle.source}) weight={_shape(bundle.weight.shape)}"
        case _:
            unreachable(bundle.kind)
    late = _unless(0, delay=bundle.delay)
    return f"{bundle.name} = {what} {_weight(bundle.weight)}{late}"


def _unless(usual: int, **setting: int) -> str:
    """Return ` name=value`, or nothing where the value is the usual one."""
    return "".join(f" {name}={value}" for name, value in setting.items() if value != usual)


def _weight(weight: Weight[Any]) -> str:
    form = "csr" if isinstance(weight, Csr) else "dense"
    return f"{form} of {prod(weight.shape)} density={density(weight):.4f}"


def _range(values: IntArray) -> str:
    return f"{np.min(values, initial=0)}..{np.max(values, initial=0)}"


def _shape(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"
