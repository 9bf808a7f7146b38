"""Fold batch norms into the linear layers before them."""

from __future__ import annotations

import numpy as np

from snnc.errors import InvalidGraph, Issue
from snnc.ir.graph import Add, AvgPool2d, BatchNorm, Conv2d, Graph, Linear, Op, consumers
from snnc.ir.weights import FloatArray, floats, scale_rows
from snnc.passes.rewrite import bypass, with_ops


def fold_batchnorm(graph: Graph) -> Graph:
    """Replace a linear layer and its BatchNorm by one linear layer.

    With g = gain / sqrt(var + eps):

        g * (W s + b - mean) + shift  =  (g W) s + (g (b - mean) + shift)

    Average pooling between the two commutes with the affine map of each channel; through a
    sum, every branch takes the factor g and the first one the offset.

    Raises:
        InvalidGraph: a BatchNorm follows something that is not linear, or something that
            another node reads too.
    """
    issues: list[Issue] = []
    for name in [node.name for node in graph.nodes]:
        node = graph[name]  # as the folds before left it
        if not isinstance(node.op, BatchNorm):
            continue
        gain = node.op.gain / np.sqrt(node.op.var + node.op.eps)
        offset = node.op.shift - gain * node.op.mean
        ops: dict[str, Op] = {}
        problem = _absorb(graph, node.inputs[0], gain, offset, ops)
        if problem is None:
            graph = bypass(with_ops(graph, ops), node.name)
        else:
            issues.append(
                Issue(
                    node.name,
                    problem,
                    "place each batch norm directly after its own convolution or linear layer",
                    "batchnorm",
                )
            )
    if issues:
        raise InvalidGraph(issues)
    return graph


def _absorb(
    graph: Graph, name: str, gain: FloatArray, offset: FloatArray, ops: dict[str, Op]
) -> str | None:
    """Note in `ops` how node `name` takes y -> gain * y + offset; return what prevents it."""
    node = graph[name]
    if len(consumers(graph)[name]) > 1:
        return f"{name} is read more than once"
    match node.op:
        case Conv2d() | Linear() as op:
            if gain.shape != op.bias.shape:
                return f"{name} has {op.bias.size} outputs, the batch norm {gain.size} channels"
            weight, bias = scale_rows(op.weight, gain), floats(gain * op.bias + offset)
            if isinstance(op, Linear):
                ops[name] = Linear(weight=weight, bias=bias)
            else:
                ops[name] = Conv2d(
                    weight=weight,
                    bias=bias,
                    stride=op.stride,
                    padding=op.padding,
                    groups=op.groups,
                )
            return None
        case AvgPool2d():
            return _absorb(graph, node.inputs[0], gain, offset, ops)
        case Add():
            none = floats(np.zeros_like(offset))
            problems = [
                _absorb(graph, source, gain, none if i else offset, ops)
                for i, source in enumerate(node.inputs)
            ]
            return next((problem for problem in problems if problem), None)
        case _:
            return f"it normalises the output of {name}, a {type(node.op).__name__}"
