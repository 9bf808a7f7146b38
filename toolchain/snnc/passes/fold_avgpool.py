"""Fold average pooling into the synapses before or after it.

Pooled spikes are fractions, which no binary spike can carry. A pooling is linear, so it
merges with the linear layer that reads it.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import scipy.sparse

from snnc.errors import InvalidGraph, Issue
from snnc.ir.check import shapes
from snnc.ir.geometry import convolved, pooled
from snnc.ir.graph import Add, AvgPool2d, Conv2d, Flatten, Graph, Linear, Node, consumers
from snnc.ir.weights import Dense, FloatArray, FloatWeight, Shape, floats, pack, unpack
from snnc.passes.rewrite import bypass, with_ops


def fold_avgpool(graph: Graph) -> Graph:
    """Replace pooling and a linear layer by one linear layer, with P the pooling matrix.

        P (W s + b)  =  (P W) s + b        pooling after a convolution, windows inside the map
        P (x + y)    =  P x + P y          pooling after a sum of them
        W (P s) + b  =  (W P) s + b        pooling before a layer: strides and kernels multiply

    Poolings of numbers are folded from the first to the last and poolings of spikes from the
    last to the first, so that one may read another.

    Raises:
        InvalidGraph: the pooling is read by something that has no weights, or its windows
            leave rows or overlap in a way that a padded convolution cannot repeat.
    """
    issues: list[Issue] = []
    pools = [node.name for node in graph.nodes if isinstance(node.op, AvgPool2d)]
    after = [name for name in pools if _pools_numbers(graph, name)]
    for name in [*after, *(name for name in reversed(pools) if name not in after)]:
        node = graph[name]
        assert isinstance(node.op, AvgPool2d)  # noqa: S101 - no fold changes another pooling
        fold = _fold_after if name in after else _fold_before
        try:
            graph = bypass(with_ops(graph, fold(graph, node, node.op)), name)
        except _CannotFold as reason:
            issues.append(
                Issue(
                    name,
                    str(reason),
                    "pool spikes by windows that tile the map, right before a linear layer",
                    "avgpool",
                )
            )
    if issues:
        raise InvalidGraph(issues)
    return graph


class _CannotFold(Exception):
    """Why a pooling cannot be folded."""


def _pools_numbers(graph: Graph, name: str) -> bool:
    """Say whether what is pooled is a current, not spikes or the image."""
    node = graph[name]
    while isinstance(node.op, AvgPool2d):
        node = graph[node.inputs[0]]
    return isinstance(node.op, Conv2d | Add)


def _fold_after(graph: Graph, node: Node, pool: AvgPool2d) -> dict[str, Conv2d | Linear]:
    """Return the convolutions that pool what they compute."""
    found, readers = shapes(graph), consumers(graph)
    ops: dict[str, Conv2d | Linear] = {}

    def fold(source: Node) -> None:
        if len(readers[source.name]) > 1:
            raise _CannotFold(f"{source.name} is read by another node too")
        match source.op:
            case Conv2d() as conv:
                merged = _pool_after(conv, pool)
                if _output(merged, found[source.inputs[0]]) != found[node.name]:
                    raise _CannotFold(f"its windows do not fit the output of {source.name}")
                ops[source.name] = merged
            case Add():
                for name in source.inputs:
                    fold(graph[name])
            case op:
                kind = type(op).__name__
                raise _CannotFold(f"it pools {source.name}, a {kind}, which has no weights")

    fold(graph[node.inputs[0]])
    return ops


def _fold_before(graph: Graph, node: Node, pool: AvgPool2d) -> dict[str, Conv2d | Linear]:
    """Return the layers that read the pooled map, as they read the map itself."""
    found, readers = shapes(graph), consumers(graph)
    source = found[node.inputs[0]]
    ops: dict[str, Conv2d | Linear] = {}
    for reader in readers[node.name]:
        match reader.op:
            case Conv2d() as op:
                ops[reader.name] = _pool_before(op, pool, source, reader.name)
            case Flatten():
                for last in readers[reader.name]:
                    if not isinstance(last.op, Linear):
                        raise _CannotFold(f"{last.name} reads it and has no weights")
                    weight = _expand(last.op.weight, pool, source, found[node.name])
                    ops[last.name] = Linear(weight=weight, bias=last.op.bias)
            case _:
                raise _CannotFold(f"{reader.name}, a {type(reader.op).__name__}, reads it")
    return ops


def _output(conv: Conv2d, source: Shape) -> Shape:
    return convolved(source, conv.weight.shape, conv.stride, conv.padding)


def _pool_after(conv: Conv2d, pool: AvgPool2d) -> Conv2d:
    """P (W s + b): kernel k + (kp - 1) s_conv, stride s_conv * s_pool, same padding."""
    weight = unpack(conv.weight)
    size = tuple(
        k + (p - 1) * s for k, p, s in zip(weight.shape[2:], pool.kernel, conv.stride, strict=True)
    )
    merged = np.zeros((*weight.shape[:2], *size))
    height, width = weight.shape[2:]
    for py in range(pool.kernel[0]):
        for px in range(pool.kernel[1]):
            y, x = py * conv.stride[0], px * conv.stride[1]
            merged[:, :, y : y + height, x : x + width] += weight
    stride = (conv.stride[0] * pool.stride[0], conv.stride[1] * pool.stride[1])
    return replace(conv, weight=_like(conv.weight, merged / prod(pool.kernel)), stride=stride)


def _pool_before(conv: Conv2d, pool: AvgPool2d, source: Shape, name: str) -> Conv2d:
    """W (P s) + b: kernel kp + (k - 1) s_pool, stride s_pool * s_conv, padding p * s_pool.

    With padding, a padded window must see padding only: windows may not overlap, and must
    cover the map to its end.
    """
    weight = unpack(conv.weight)
    size = tuple(
        p + (k - 1) * s for k, p, s in zip(weight.shape[2:], pool.kernel, pool.stride, strict=True)
    )
    merged = np.zeros((*weight.shape[:2], *size))
    last = [(k - 1) * s + 1 for k, s in zip(weight.shape[2:], pool.stride, strict=True)]
    for py in range(pool.kernel[0]):
        for px in range(pool.kernel[1]):
            taps = merged[
                :, :, py : py + last[0] : pool.stride[0], px : px + last[1] : pool.stride[1]
            ]
            taps += weight
    for size_, kernel, stride_, padding_ in zip(
        source[1:], pool.kernel, pool.stride, conv.padding, strict=True
    ):
        if padding_ and (kernel > stride_ or size_ % stride_):
            raise _CannotFold(
                f"windows of {kernel} every {stride_} do not tile {size_}, and {name} pads"
            )
    folded = replace(
        conv,
        weight=_like(conv.weight, merged / prod(pool.kernel)),
        stride=(conv.stride[0] * pool.stride[0], conv.stride[1] * pool.stride[1]),
        padding=(conv.padding[0] * pool.stride[0], conv.padding[1] * pool.stride[1]),
    )
    before = convolved(
        pooled(source, pool.kernel, pool.stride), weight.shape, conv.stride, conv.padding
    )
    if _output(folded, source) != before:
        raise _CannotFold(f"the merged kernel would give {name} another output size")
    return folded


def _expand(weight: FloatWeight, pool: AvgPool2d, source: Shape, target: Shape) -> FloatWeight:
    """Return W P for a matrix that reads the flattened pooled map."""
    channels, height, width = source
    _, rows, columns = target
    c, y, x, ky, kx = np.meshgrid(
        *(np.arange(n) for n in (channels, rows, columns, *pool.kernel)), indexing="ij"
    )
    row = (c * rows + y) * columns + x
    column = (c * height + y * pool.stride[0] + ky) * width + x * pool.stride[1] + kx
    matrix = scipy.sparse.coo_array(
        (np.full(row.size, 1.0 / prod(pool.kernel)), (row.ravel(), column.ravel())),
        shape=(prod(target), prod(source)),
    ).tocsr()
    return _like(weight, (scipy.sparse.csr_array(unpack(weight)) @ matrix).toarray())


def _like(weight: FloatWeight, values: FloatArray) -> FloatWeight:
    """Store values dense if `weight` was dense, else as its density asks."""
    return Dense(floats(values)) if isinstance(weight, Dense) else pack(values)
