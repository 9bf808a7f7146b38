"""The float graph: what training hands to the compiler.

A graph is a directed acyclic graph of named nodes in topological order: it starts with
one `Input` and ends with one `Readout`. Nodes are values: passes build new graphs and
never change one. Arrays are read-only, so sharing them between graphs is safe. Names
are those of the user's modules and survive every pass.

A graph with `Relu` nodes is an ordinary network, run once; one with `Fire` nodes is a
spiking network, run for `steps` time steps on a constant image ("direct coding": the
normalised image is the input current of every step). `check` allows no mixture.

Shapes of feature maps are (channels, height, width) or (neurons,), without the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from snnc.ir.weights import FloatArray, FloatWeight, Shape


class Reset(Enum):
    """What a spike leaves behind on the membrane."""

    ZERO = "zero"  # v <- 0, the only reset that Loihi's LIF has
    SUBTRACT = "subtract"  # v <- v - threshold, keeps the excess


class Granularity(Enum):
    """How many thresholds a layer has."""

    LAYER = "layer"  # one, shape ()
    CHANNEL = "channel"  # one for each channel, shape (channels,)
    NEURON = "neuron"  # one for each neuron, the shape of the layer


class Coding(Enum):
    """How an image becomes input over time."""

    DIRECT = "direct"  # the image is the input current of every time step


class Decision(Enum):
    """What the readout compares to name a class; the first largest wins."""

    MEMBRANE = "membrane"  # the input of a non-spiking last layer, mean over the steps
    SPIKES = "spikes"  # the spike counts of a spiking last layer, mean over the steps


@dataclass(frozen=True, kw_only=True)
class Input:
    """Images with values in [0, 1]."""

    shape: Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalize:
    """y = (x - mean) / std for each channel (or each neuron of a flat input)."""

    mean: FloatArray  # (channels,)
    std: FloatArray  # (channels,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv2d:
    """Cross-correlation with zero padding, plus a bias for each output channel."""

    weight: FloatWeight  # (out, in / groups, kh, kw)
    bias: FloatArray  # (out,)
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """y = weight @ x + bias."""

    weight: FloatWeight  # (out, in)
    bias: FloatArray  # (out,)


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchNorm:
    """y = gain * (x - mean) / sqrt(var + eps) + shift for each channel, statistics frozen."""

    gain: FloatArray  # (channels,)
    shift: FloatArray
    mean: FloatArray
    var: FloatArray
    eps: float


@dataclass(frozen=True, kw_only=True)
class AvgPool2d:
    """Mean over windows, without padding; rows and columns that fill no window are dropped."""

    kernel: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Add:
    """The sum of two or more maps of equal shape."""


@dataclass(frozen=True, kw_only=True)
class Flatten:
    """(C, H, W) to (C * H * W,), in that order."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Nothing: what dropout is at inference."""


@dataclass(frozen=True, kw_only=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fire:
    """Leaky integrate and fire, without a reset of its input:

        v <- keep * v + x;   spike where v >= threshold;   then reset

    with v = 0 before the first step. `keep` = 1 is the IF neuron.
    """

    threshold: FloatArray  # (), (channels,) or the shape of the layer, see `granularity`
    granularity: Granularity
    reset: Reset
    keep: float


@dataclass(frozen=True, kw_only=True)
class Readout:
    """The last node: logits are the mean of its input over the steps."""

    decision: Decision


Op = (
    Input
    | Normalize
    | Conv2d
    | Linear
    | BatchNorm
    | AvgPool2d
    | Add
    | Flatten
    | Identity
    | Relu
    | Fire
    | Readout
)
Synaptic = Conv2d | Linear  # the ops that hold weights


@dataclass(frozen=True, eq=False)
class Node:
    """One named operation and the names of the nodes it reads, in order."""

    name: str
    op: Op
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A network. Build one, then call `snnc.ir.check.check_graph` on it."""

    nodes: tuple[Node, ...]
    steps: int  # T; 1 for a network without spikes
    coding: Coding = Coding.DIRECT
    class_names: tuple[str, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)  # JSON values only

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)


def consumers(graph: Graph) -> dict[str, tuple[Node, ...]]:
    """Map each node's name to the nodes that read it, in order; twice where one reads it twice."""
    found: dict[str, list[Node]] = {node.name: [] for node in graph.nodes}
    for node in graph.nodes:
        for source in node.inputs:
            found[source].append(node)
    return {name: tuple(nodes) for name, nodes in found.items()}
