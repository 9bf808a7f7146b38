"""The integer program: what a target runs.

A program holds integers only. There is no float program and no half-quantized one:
`passes.quantize` is the one door from `Graph` to `Program`. What the integers mean is
defined in `snnc.semantics` and nowhere else.

The one float is `scale`, which no arithmetic uses: it says how many integer units one
unit of the float graph became, so that reports can compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from snnc.ir.graph import Reset
from snnc.ir.weights import IntArray, IntWeight, Shape

SEMANTICS = 2  # of the arithmetic in snnc.semantics: raise it when a line there changes meaning
FORGET = 1 << 12  # the current decay of a neuron whose current is that of this step alone
INPUT = "input"  # the name by which synapses refer to the encoded image


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageInput:
    """How an image in [0, 1] becomes integers, the same at every time step:

        code = rint(levels * pixel) - zero_point[channel]

    rint rounds halves to even. `zero_point` has one entry for each channel.
    """

    shape: Shape
    levels: int
    zero_point: IntArray  # (channels,)

    @property
    def peaks(self) -> IntArray:
        """The largest |code| of each channel: (channels,)."""
        return np.maximum(np.abs(self.zero_point), np.abs(self.levels - self.zero_point))

    @property
    def peak(self) -> int:
        """The largest |code|."""
        return int(self.peaks.max())


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """Cross-correlation with zero padding over a (C, H, W) source."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int


@dataclass(frozen=True, kw_only=True)
class FullyConnected:
    """A matrix over the flattened source, (C, H, W) order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Synapses:
    """One bundle of connections from one source to one population.

    A spike arrives `delay` steps after the one in which its source emits it. Synapses with
    delays of their own are several bundles from the same source, one for each delay.
    """

    name: str  # of the user's module
    source: str  # a layer's name, or INPUT
    weight: IntWeight  # (out, in / groups, kh, kw) for a convolution, else (out, in)
    kind: Convolution | FullyConnected
    delay: int = 0  # 0 from the image, which is the same at every step


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A population of spiking neurons and the synapses into it.

    Weights and bias are in units of current; `threshold` is in units of the membrane,
    which are 2**semantics.neuron.ALIGN times finer.
    """

    name: str
    shape: Shape
    synapses: tuple[Synapses, ...]  # their currents add up
    bias: IntArray  # (channels,) or (neurons,): added at every step
    threshold: int
    decay: int  # 0 (no leak) to 4095: v <- v * (4096 - decay) / 4096, toward zero
    reset: Reset
    scale: float
    current_decay: int = FORGET  # of the current, as `decay` of the membrane

    @property
    def size(self) -> int:
        """The number of neurons."""
        return prod(self.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Accumulator:
    """A last layer that does not spike: logits are its currents and biases, summed over time."""

    name: str
    shape: Shape
    synapses: tuple[Synapses, ...]
    bias: IntArray
    scale: float

    @property
    def size(self) -> int:
        """The number of classes."""
        return prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class SpikeCount:
    """Logits are the spike counts of the last layer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """Layers in topological order: a layer reads the input and the layers before it."""

    input: ImageInput
    layers: tuple[Layer, ...]
    readout: Accumulator | SpikeCount
    steps: int  # T
    class_names: tuple[str, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)

    @property
    def populations(self) -> tuple[Layer | Accumulator, ...]:
        """Everything that receives synapses: the layers, then the accumulator if there is one."""
        if isinstance(self.readout, Accumulator):
            return (*self.layers, self.readout)
        return self.layers

    @property
    def classes(self) -> int:
        """The number of logits."""
        return self.populations[-1].size

    def shape_of(self, source: str) -> Shape:
        """Return the shape of what a synapse bundle reads."""
        if source == INPUT:
            return self.input.shape
        return next(layer.shape for layer in self.layers if layer.name == source)
