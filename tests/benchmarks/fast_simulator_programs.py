"""VGG-16 as integers and as the same network in PyTorch, for measurements.

The shape is `vgg16_hydra`'s: thirteen 3x3 convolutions, four 2x2 average poolings, three
matrices; integrate-and-fire neurons, hard reset. Weights are 8-bit integers drawn from a
seed, zero where a drawn mask says so. Each threshold is chosen so that `RATE` of the layer's
neurons spike at each step. A pooling is folded into the convolution after it, as the
compiler does: 6x6 taps of stride 2 in the program, a pooling in PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from snnc.ir.check_program import check_program
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import IntArray, integers, pack
from snnc.semantics.neuron import ALIGN
from snnc.simulate import reference
from torch import nn

RATE = 0.1  # of the neurons spike at each step
PLAN = (1, 1, 0, 2, 2, 0, 4, 4, 4, 0, 8, 8, 8, 0, 8, 8, 8)  # channels / width; 0 is a pooling
HIDDEN = (256, 256)
CLASSES = 10
SHAPE = (3, 32, 32)
SPREAD = 36.0  # standard deviation of the weights: the largest of a layer is near 127


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One layer: its weights before the pooling ahead of it is folded in."""

    weight: IntArray  # (out, in, 3, 3) or (out, in)
    bias: IntArray
    pooled: bool


class Network(nn.Module):
    """The same network in float32: every sum is an integer below 2**24, hence exact.

    Steps are folded into the batch, maps are channels last, the first layer is computed once.
    """

    def __init__(self, stages: list[Stage], thresholds: list[int], steps: int) -> None:
        super().__init__()
        self.steps, self.thresholds = steps, thresholds
        self.pooled = [stage.pooled for stage in stages]
        weights = [torch.tensor(stage.weight, dtype=torch.float32) for stage in stages]
        self.weights = nn.ParameterList(
            w.contiguous(memory_format=torch.channels_last) if w.dim() == 4 else w for w in weights
        )
        self.biases = nn.ParameterList(
            torch.tensor(stage.bias, dtype=torch.float32) for stage in stages
        )

    @torch.inference_mode()
    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the logits (samples, classes) for codes (samples, *shape)."""
        x = codes.to(torch.float32, memory_format=torch.channels_last)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self.pooled[i]:
                x = nn.functional.avg_pool2d(x, 2, divisor_override=1)
            if weight.dim() == 4:
                x = nn.functional.conv2d(x, weight, bias, padding=1)
            else:
                x = nn.functional.linear(x.flatten(1), weight, bias)
            if i < len(self.thresholds):
                x = self._fire(x, self.thresholds[i], constant=i == 0)
        return x.reshape(self.steps, len(codes), -1).sum(0)

    def _fire(self, currents: torch.Tensor, threshold: int, *, constant: bool) -> torch.Tensor:
        """Return the spikes (steps * samples, ...) of hard reset neurons."""
        level = float(-(-threshold >> ALIGN))
        by_step = [currents] * self.steps if constant else list(currents.chunk(self.steps))
        v = torch.zeros_like(by_step[0])
        spikes = []
        for current in by_step:
            v = v + current
            fired = v >= level
            spikes.append(fired.to(torch.float32))
            v = v.masked_fill(fired, 0.0)
        return torch.cat(spikes)


def vgg16_program(
    sparsity: float, steps: int, seed: int, *, width: int = 64, samples: int = 64
) -> tuple[Program, Network, IntArray]:
    """Return a program, the same network in PyTorch, and codes (samples, 3, 32, 32)."""
    rng = np.random.default_rng(seed)
    stages = _stages(rng, sparsity, width)
    coding = ImageInput(shape=SHAPE, levels=255, zero_point=integers([125, 123, 114]))
    pixels = rng.integers(0, 256, (samples, *SHAPE))
    codes = integers(pixels - coding.zero_point[:, None, None])
    layers: list[Layer] = []
    shape: tuple[int, ...] = SHAPE
    spikes: dict[str, npt.NDArray[np.bool_]] = {}
    before = INPUT
    probe = Program(input=coding, layers=(), readout=_readout(stages[-1], before), steps=steps)
    for number, stage in enumerate(stages[:-1], 1):
        bundle, shape = _synapses(stage, f"layer{number}", before, shape)
        layer = _layer(bundle, stage, shape, threshold=1)
        known = Program(input=coding, layers=tuple(layers), readout=probe.readout, steps=steps)
        drive = reference.drive(known, layer, codes[:1], spikes)
        threshold = _threshold(layer, drive)
        layer = _layer(bundle, stage, shape, threshold=threshold)
        before = layer.name
        spikes = {before: reference.fire(layer, drive)}
        layers.append(layer)
    program = Program(
        input=coding,
        layers=tuple(layers),
        readout=_readout(stages[-1], before),
        steps=steps,
    )
    network = Network(stages, [layer.threshold for layer in layers], steps)
    return check_program(program), network, codes


def _stages(rng: np.random.Generator, sparsity: float, width: int) -> list[Stage]:
    stages, pooled, before = [], False, SHAPE[0]
    for multiple in PLAN:
        if not multiple:
            pooled = True
            continue
        after = multiple * width
        stages.append(_stage(rng, (after, before, 3, 3), sparsity, pooled=pooled))
        before, pooled = after, False
    before *= 4  # the last map is 2 x 2
    for after in (*HIDDEN, CLASSES):
        stages.append(_stage(rng, (after, before), sparsity, pooled=False))
        before = after
    return stages


def _stage(
    rng: np.random.Generator, shape: tuple[int, ...], sparsity: float, *, pooled: bool
) -> Stage:
    values = np.clip(np.rint(rng.normal(0, SPREAD, shape)), -127, 127)
    weight = np.where(rng.random(shape) < sparsity, 0, np.where(values == 0, 1, values))
    bias = np.rint(rng.normal(SPREAD / 2, SPREAD / 2, shape[0]))
    return Stage(
        weight=integers(weight), bias=integers(np.where(bias == 0, 1, bias)), pooled=pooled
    )


def _synapses(
    stage: Stage, name: str, source: str, shape: tuple[int, ...]
) -> tuple[Synapses, tuple[int, ...]]:
    """Return a layer's synapses and its shape."""
    weight = stage.weight
    if weight.ndim == 2:
        bundle = Synapses(name=name, source=source, weight=pack(weight), kind=FullyConnected())
        return bundle, weight.shape[:1]
    step = 2 if stage.pooled else 1
    weight = weight.repeat(step, axis=2).repeat(step, axis=3)
    kind = Convolution(stride=(step, step), padding=(step, step), groups=1)
    bundle = Synapses(name=name, source=source, weight=pack(weight), kind=kind)
    return bundle, (len(weight), shape[1] // step, shape[2] // step)


def _layer(bundle: Synapses, stage: Stage, shape: tuple[int, ...], *, threshold: int) -> Layer:
    return Layer(
        name=bundle.name,
        shape=shape,
        synapses=(bundle,),
        bias=stage.bias,
        threshold=threshold,
        decay=0,
        reset=Reset.ZERO,
        scale=1.0,
    )


def _threshold(layer: Layer, drive: npt.NDArray[np.int64]) -> int:
    """Return the threshold at which `RATE` of the neurons spike at each step."""
    few = drive[:, :, : min(64, layer.shape[0])]
    part = _layer(
        layer.synapses[0],
        Stage(weight=integers([]), bias=layer.bias[:64], pooled=False),
        few.shape[2:],
        threshold=1,
    )
    low, high = 1, max(2, int(np.abs(drive).max()) * drive.shape[1])
    while high > low + max(1, low // 100):
        middle = (low + high) // 2
        part = _layer(
            part.synapses[0],
            Stage(weight=integers([]), bias=part.bias, pooled=False),
            few.shape[2:],
            threshold=((middle - 1) << ALIGN) + 1,
        )
        if reference.fire(part, few).mean() > RATE:
            low = middle
        else:
            high = middle
    return ((high - 1) << ALIGN) + 1


def _readout(stage: Stage, source: str) -> Accumulator:
    return Accumulator(
        name="readout",
        shape=(CLASSES,),
        synapses=(
            Synapses(
                name="readout", source=source, weight=pack(stage.weight), kind=FullyConnected()
            ),
        ),
        bias=stage.bias,
        scale=1.0,
    )
