"""Run a float graph in numpy, to check passes and to compare the integers with.

Float64 throughout. A map is (samples, time, *shape), where time is 1 until the first
spiking layer: with direct coding everything before it is constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidSetting, unreachable
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
    Reset,
)
from snnc.ir.weights import FloatArray, unpack
from snnc.simulate.currents import convolve


def run_graph(graph: Graph, images: npt.NDArray[np.floating]) -> FloatArray:
    """Return the logits (samples, classes) of a valid graph for images (samples, *shape)."""
    logits: FloatArray = maps(graph, images)[graph.nodes[-1].name]
    return logits.reshape(len(images), -1)


def activations(graph: Graph, images: npt.NDArray[np.floating]) -> Mapping[str, FloatArray]:
    """Return the output (samples, *shape) of each node of an ordinary network."""
    if graph.steps != 1 or any(isinstance(node.op, Fire) for node in graph.nodes):
        raise InvalidSetting("activations are those of an ordinary network; this one spikes")
    return {name: values.mean(axis=1) for name, values in maps(graph, images).items()}


NOTHING: Mapping[str, FloatArray] = MappingProxyType({})


def maps(
    graph: Graph,
    images: npt.NDArray[np.floating],
    known: Mapping[str, FloatArray] = NOTHING,
) -> Mapping[str, FloatArray]:
    """Return the output (samples, time, *shape) of each node; that of a Fire is its spikes.

    Time is 1 where the output is the same at every step, else the steps of the graph. Nodes
    whose output is `known`, from a run of a graph that computes them alike, are not run.
    """
    found: dict[str, FloatArray] = {}
    for node in graph.nodes:
        if node.name in known:
            found[node.name] = known[node.name]
        elif isinstance(node.op, Input):
            if images.shape[1:] != node.op.shape:
                raise InvalidSetting(f"images are {images.shape[1:]}, not {node.op.shape}")
            found[node.name] = images[:, None].astype(np.float64)
        else:
            sources = [found[name] for name in node.inputs]
            found[node.name] = _evaluate(node.op, sources, graph.steps)
    return found


def _evaluate(op: Op, sources: list[FloatArray], steps: int) -> FloatArray:
    x = sources[0]
    match op:
        case Normalize(mean=mean, std=std):
            return (x - _per_channel(mean, x)) / _per_channel(std, x)
        case BatchNorm():
            gain = op.gain / np.sqrt(op.var + op.eps)
            shift = _per_channel(op.shift, x)
            return (x - _per_channel(op.mean, x)) * _per_channel(gain, x) + shift
        case Conv2d():
            y = convolve(_merge(x), unpack(op.weight), op.stride, op.padding, op.groups)
            return y.reshape(*x.shape[:2], *y.shape[1:]) + op.bias[:, None, None]
        case Linear():
            return np.asarray(x @ unpack(op.weight).T + op.bias)
        case AvgPool2d(kernel=kernel, stride=stride):
            windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(3, 4))
            return np.asarray(windows[:, :, :, :: stride[0], :: stride[1]].mean(axis=(-2, -1)))
        case Add():
            return np.asarray(sum(sources[1:], start=x))
        case Flatten():
            return x.reshape(*x.shape[:2], -1)
        case Identity():
            return x
        case Relu():
            return np.maximum(x, 0.0)
        case Fire():
            return _fire(op, np.broadcast_to(x, (len(x), steps, *x.shape[2:])))
        case Readout():
            return np.asarray(x.mean(axis=1, keepdims=True))
        case Input():
            raise AssertionError("an input reads nothing")
        case _:
            unreachable(op)


def _fire(op: Fire, drive: FloatArray) -> FloatArray:
    threshold = op.threshold
    if threshold.ndim == 1:
        threshold = threshold.reshape(-1, *[1] * (drive.ndim - 3))
    v = np.zeros((len(drive), *drive.shape[2:]))
    spikes = np.empty(drive.shape)
    for t in range(drive.shape[1]):
        v = op.keep * v + drive[:, t]
        fired = v >= threshold
        spikes[:, t] = fired
        match op.reset:
            case Reset.ZERO:
                v = np.where(fired, 0.0, v)
            case Reset.SUBTRACT:
                v = np.where(fired, v - threshold, v)
            case _:
                unreachable(op.reset)
    return spikes


def _per_channel(values: FloatArray, x: FloatArray) -> FloatArray:
    return values.reshape(-1, *[1] * (x.ndim - 3))


def _merge(x: FloatArray) -> FloatArray:
    return x.reshape(-1, *x.shape[2:])
