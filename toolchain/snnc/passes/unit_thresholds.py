"""Scale every layer so that its threshold is 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnc.errors import InvalidGraph, Issue
from snnc.ir.check import shapes
from snnc.ir.graph import Conv2d, Fire, Granularity, Graph, Linear, Op
from snnc.ir.weights import FloatArray, Shape, floats, scale_rows
from snnc.passes.rewrite import drive, with_ops


def unit_thresholds(graph: Graph) -> Graph:
    """Divide weights, biases and threshold of a layer by its threshold.

    Leak, integrate, compare and both resets are homogeneous of degree one in (weight, bias,
    threshold), so spikes do not change. A threshold for each channel divides that channel's
    weights.

    Raises:
        InvalidGraph: a threshold for each neuron after a convolution, whose weights the
            neurons share; or a layer that reads something without weights.
    """
    found = shapes(graph)
    issues: list[Issue] = []
    ops: dict[str, Op] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Fire):
            continue
        synapses, blocked = drive(graph, node)
        issues += blocked
        for source in synapses:
            op = source.op
            assert isinstance(op, Conv2d | Linear)  # noqa: S101 - what drive returns
            factor = _per_row(node.op, op, found[node.name])
            if factor is None:
                issues.append(
                    Issue(
                        node.name,
                        f"has one threshold per neuron, but {source.name} shares its weights",
                        "balance thresholds per layer or per channel",
                        "granularity",
                    )
                )
                continue
            weight = scale_rows(op.weight, floats(1.0 / factor))
            ops[source.name] = replace(op, weight=weight, bias=floats(op.bias / factor))
        ops[node.name] = replace(node.op, threshold=floats(1.0), granularity=Granularity.LAYER)
    if issues:
        raise InvalidGraph(issues)
    return with_ops(graph, ops)


def _per_row(fire: Fire, op: Conv2d | Linear, shape: Shape) -> FloatArray | None:
    """Return the threshold of each output of `op`, or None where there is not one for each."""
    if fire.granularity is Granularity.LAYER:
        return np.full(op.bias.shape, float(fire.threshold))
    if fire.threshold.shape == op.bias.shape and len(shape) in (1, 3) and isinstance(op, Conv2d):
        return fire.threshold if fire.granularity is Granularity.CHANNEL else None
    if isinstance(op, Linear):
        per_neuron = fire.threshold.reshape(-1, *[1] * (len(shape) - fire.threshold.ndim))
        return np.broadcast_to(per_neuron, shape).reshape(-1)
    return None
