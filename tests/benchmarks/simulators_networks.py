"""The networks that every simulator of the comparison runs: drawn integers, one neuron.

Weights are 8-bit integers drawn from a seed, a given share of them zero. The neuron is
integrate and fire, v <- v + current, a spike where v >= threshold, then v = 0. Thresholds
are set layer by layer so that a tenth of the neurons spikes at each step. All sums stay far
below 2**24, so float32 computes them exactly in any order, and simulators that compute in
floats have no excuse for another spike.

`program` says the same network in our integer program, where a pooling is part of the
synapses that read it: its kernels are twice as wide, their weights repeated. The others sum
2x2 spikes first, which costs them a quarter of the multiplications. Its thresholds have the
form that Loihi offers, 64 (n - 1) + 1 for n units of weight, so that Lava can take part: a
membrane is a multiple of 64 there, so it reaches 64 n exactly if it reaches that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from enum import Enum
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
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

Codes = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]
Kept = list[list[Counts]]  # for each chunk of samples, each layer's spikes (samples, neurons)
Run = Callable[[Codes, Kept | None], Counts]  # the logits of codes; adds to what is kept

LEVELS, ZERO_POINT = 255, 120  # of the image's codes
SPREAD = 40.0  # standard deviation of the weights before they are rounded
SPREAD_OF_IMAGE = 10.0  # of the first layer's, whose inputs are codes and not spikes
LIMIT = 127
RATE = 0.1  # the share of neurons that spikes at each step
CALIBRATION = 4  # images
NEURONS = 20_000  # at most so many of a layer decide its threshold


class Shape(Enum):
    """The shapes of the comparison."""

    VGG16 = "vgg16"  # of HYDRA, 3x32x32: 13 convolutions, 4 poolings, 3 matrices
    CONV = "conv"  # 1x28x28: 2 convolutions, 2 poolings, 2 matrices
    DENSE = "dense"  # 784-512-256-10


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that decides which integers are run."""

    shape: Shape
    width: int  # channels of the first convolution; the vgg16 of the papers has 64
    sparsity: float
    steps: int
    samples: int
    seed: int = 0

    @property
    def name(self) -> str:
        """Return what tells this setting from others, for people and for files."""
        return (
            f"{self.shape.value}-w{self.width}-s{100 * self.sparsity:g}-T{self.steps}"
            f"-n{self.samples}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One layer: perhaps a sum of 2x2 spikes, then weights, then neurons (or the logits)."""

    weight: IntArray  # (out, in, 3, 3), stride 1, padding 1; or (out, in)
    bias: IntArray  # (out,)
    threshold: int | None  # in units of the weights; None: the logits, summed over time
    pool: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network of the comparison."""

    setting: Setting
    input_shape: tuple[int, int, int]
    stages: tuple[Stage, ...]

    def maps(self) -> Iterator[tuple[Stage, tuple[int, ...]]]:
        """Yield each stage with the shape of its output."""
        shape: tuple[int, ...] = self.input_shape
        for stage in self.stages:
            if stage.pool:
                shape = (shape[0], shape[1] // 2, shape[2] // 2)
            out = stage.weight.shape[0]
            shape = (out, *shape[1:]) if stage.weight.ndim == 4 else (out,)
            yield stage, shape

    def updates(self, *, stored: bool) -> int:
        """Return the synapse updates of one image over all steps: weights times positions.

        With `stored`, weights that are zero do not count. The first layer counts once: its
        input is the same at every step. Taps that lie outside a padded map count too, and so
        do silent sources, as they do where multiplications of dense layers are counted.
        """
        total = 0
        for number, (stage, shape) in enumerate(self.maps()):
            weights = np.count_nonzero(stage.weight) if stored else stage.weight.size
            total += int(weights) * prod(shape[1:]) * (self.setting.steps if number else 1)
        return total

    def least_bytes(self) -> int:
        """Return what nobody can do without: the weights and one layer's activity.

        A weight that is not zero takes 2 bytes and as many for its place. The activity is that
        of the largest layer: a 2-byte current and a 1-byte spike of each neuron, step and image.
        """
        weights = sum(int(np.count_nonzero(stage.weight)) for stage in self.stages)
        largest = max(prod(shape) for _, shape in self.maps())
        return 4 * weights + 3 * largest * self.setting.steps * self.setting.samples


Build = Callable[[Network], Run]


def in_chunks(part: Run, chunk: int) -> Run:
    """Return what runs at most `chunk` samples at a time."""

    def run(codes: Codes, kept: Kept | None) -> Counts:
        starts = range(0, len(codes), chunk)
        return np.concatenate([part(codes[first : first + chunk], kept) for first in starts])

    return run


def draw(setting: Setting) -> Network:
    """Draw the network of a setting and set its thresholds."""
    rng = np.random.default_rng(setting.seed)
    network = _silent(setting, rng)
    return _calibrated(network, codes(replace(setting, samples=CALIBRATION), network.input_shape))


def uncalibrated(setting: Setting) -> Network:
    """Return the network of a setting with thresholds of 1, which takes no torch."""
    return _silent(setting, np.random.default_rng(setting.seed))


def codes(setting: Setting, input_shape: tuple[int, ...]) -> IntArray:
    """Return the codes of drawn images (samples, *shape)."""
    rng = np.random.default_rng(setting.seed + 1)
    pixels = rng.random((setting.samples, *input_shape), dtype=np.float32)
    return integers(np.rint(LEVELS * pixels) - ZERO_POINT)


def program(network: Network) -> Program:
    """Return the network as an integer program of ours."""
    layers: list[Layer] = []
    source, before = INPUT, network.input_shape
    readout: Accumulator | None = None
    for number, (stage, shape) in enumerate(network.maps(), start=1):
        kind: Convolution | FullyConnected = FullyConnected()
        weight = stage.weight
        if weight.ndim == 4:
            factor = 2 if stage.pool else 1
            weight = weight.repeat(factor, axis=2).repeat(factor, axis=3)
            kind = Convolution(stride=(factor,) * 2, padding=(factor,) * 2, groups=1)
        elif stage.pool:
            maps = weight.reshape(len(weight), before[0], before[1] // 2, before[2] // 2)
            weight = maps.repeat(2, axis=2).repeat(2, axis=3).reshape(len(weight), -1)
        bundle = Synapses(name=f"w{number}", source=source, weight=pack(weight), kind=kind)
        if stage.threshold is None:
            readout = Accumulator(
                name="readout", shape=shape, synapses=(bundle,), bias=stage.bias, scale=1.0
            )
            continue
        layers.append(
            Layer(
                name=f"layer{number}",
                shape=shape,
                synapses=(bundle,),
                bias=stage.bias,
                threshold=((stage.threshold - 1) << ALIGN) + 1,
                decay=0,
                reset=Reset.ZERO,
                scale=1.0,
            )
        )
        source, before = layers[-1].name, shape  # type: ignore[assignment]
    assert readout is not None
    coding = ImageInput(
        shape=network.input_shape,
        levels=LEVELS,
        zero_point=integers(np.full(network.input_shape[0], ZERO_POINT)),
    )
    return Program(input=coding, layers=tuple(layers), readout=readout, steps=network.setting.steps)


def save(network: Network, path: Path) -> None:
    """Write a network, for the processes that run it."""
    setting = {**asdict(network.setting), "shape": network.setting.shape.value}
    stages = [{"threshold": stage.threshold, "pool": stage.pool} for stage in network.stages]
    about = {"setting": setting, "input_shape": network.input_shape, "stages": stages}
    arrays = {f"w{i}": stage.weight.astype(np.int8) for i, stage in enumerate(network.stages)}
    biases = {f"b{i}": stage.bias for i, stage in enumerate(network.stages)}
    np.savez(path, about=np.array(json.dumps(about)), **arrays, **biases)


def load(path: Path) -> Network:
    """Read what `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        stages = tuple(
            Stage(weight=integers(file[f"w{i}"]), bias=integers(file[f"b{i}"]), **each)
            for i, each in enumerate(about["stages"])
        )
    setting = Setting(**{**about["setting"], "shape": Shape(about["setting"]["shape"])})
    return Network(setting=setting, input_shape=tuple(about["input_shape"]), stages=stages)


def _plan(setting: Setting) -> tuple[tuple[int, int, int], list[tuple[tuple[int, ...], bool]]]:
    """Return the shape of the image, and of each weight with whether a pooling stands before."""
    w = setting.width
    match setting.shape:
        case Shape.DENSE:
            sizes = (784, 8 * w, 4 * w, 10)
            pairs = zip(sizes, sizes[1:], strict=False)
            return (784, 1, 1), [((out, into), False) for into, out in pairs]
        case Shape.CONV:
            convolutions = [((w, 1, 3, 3), False), ((2 * w, w, 3, 3), True)]
            matrices = [((4 * w, 2 * w * 49), True), ((10, 4 * w), False)]
            return (1, 28, 28), [*convolutions, *matrices]
        case Shape.VGG16:
            weights: list[tuple[tuple[int, ...], bool]] = []
            into, pool = 3, False
            for factor in (1, 1, 0, 2, 2, 0, 4, 4, 4, 0, 8, 8, 8, 0, 8, 8, 8):
                if factor:
                    weights.append(((factor * w, into, 3, 3), pool))
                    into = factor * w
                pool = not factor
            sizes = (into * 4, 4 * w, 4 * w, 10)  # 2x2 maps are left
            pairs = zip(sizes, sizes[1:], strict=False)
            return (3, 32, 32), [*weights, *(((out, into), False) for into, out in pairs)]


def _silent(setting: Setting, rng: np.random.Generator) -> Network:
    """Draw weights and biases; thresholds are 1 yet.

    A first convolution and the readout, a few thousand weights, keep all of theirs, as pruned
    networks tend to; the others lose as many more.
    """
    input_shape, plan = _plan(setting)
    sizes = [prod(shape) for shape, _ in plan]
    whole = {len(plan) - 1} | ({0} if len(plan[0][0]) == 4 else set())
    rest = sum(size for number, size in enumerate(sizes) if number not in whole)
    inner = min(1.0, setting.sparsity * sum(sizes) / rest)
    stages = []
    for number, (shape, pool) in enumerate(plan):
        first, last = number == 0, number == len(plan) - 1
        weight = rng.standard_normal(shape, dtype=np.float32)
        weight = np.rint(weight * (SPREAD_OF_IMAGE if first else SPREAD))
        weight[weight == 0] = 1  # what is zero is zero because it was pruned
        if number not in whole:
            pruned = rng.permutation(weight.size)[: round(inner * weight.size)]
            weight.reshape(-1)[pruned] = 0
        bias = (
            np.zeros(shape[0]) if setting.shape is Shape.DENSE else rng.integers(-9, 10, shape[0])
        )
        stage = Stage(
            weight=integers(weight.clip(-LIMIT, LIMIT)),
            bias=integers(bias),
            threshold=None if last else 1,
            pool=pool,
        )
        stages.append(stage)
    return Network(setting=setting, input_shape=input_shape, stages=tuple(stages))


def _calibrated(network: Network, images: IntArray) -> Network:
    """Set each threshold so that a share of RATE of the layer's neurons spikes at each step."""
    import torch
    from simulators_dense import as_tensors, currents, fire, image

    stages: list[Stage] = []
    with torch.inference_mode():
        x, steps = image(images), 1
        for stage in network.stages:
            if stage.threshold is not None:
                current = currents(as_tensors(stage), x).unflatten(0, (steps, len(images)))
                drive = current.expand(network.setting.steps, *current.shape[1:])
                sample = drive.flatten(2)[..., :: max(1, drive[0, 0].numel() // NEURONS)]
                stage = replace(stage, threshold=_threshold(sample.numpy()))
                spikes = fire(current, float(stage.threshold or 0), network.setting.steps)
                x, steps = spikes.flatten(0, 1), network.setting.steps
            stages.append(stage)
    return replace(network, stages=tuple(stages))


def _threshold(drive: npt.NDArray[np.float32]) -> int:
    """Return the integer threshold whose rate is nearest RATE, of currents (steps, ...)."""

    def rate(threshold: int) -> float:
        v = np.zeros_like(drive[0])
        spikes = 0
        for current in drive:
            v += current
            fired = v >= threshold
            spikes += int(fired.sum())
            v[fired] = 0
        return spikes / drive.size

    low, high = 1, max(2, int(drive.max()) * len(drive))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if rate(middle) <= RATE else (middle + 1, high)
    return low
