"""Programs and inputs that exercise a target, for Hypothesis and for anyone with a seed.

They cover dense and sparse matrices, strided, padded and grouped convolutions, residual
sums, image synapses into later layers, leaks of membrane and current, delays, weight
exponents, both resets and both readouts. A program is made together with its input: each
threshold is a value that some membrane of the layer reaches, or one unit beside it, so
neurons sit where bugs are and most layers spike.

Everything follows from one seed, so a failing example is repeated by `generate(seed)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from snnc.errors import unreachable
from snnc.ir.check_program import check_program
from snnc.ir.geometry import convolved
from snnc.ir.graph import Reset
from snnc.ir.program import (
    FORGET,
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    SpikeCount,
    Synapses,
)
from snnc.ir.weights import Dense, IntArray, IntWeight, Shape, convert, integers, sparse
from snnc.semantics.neuron import ALIGN, CURRENT_MAX, V_MAX
from snnc.simulate.activity import delayed
from snnc.simulate.currents import currents
from snnc.simulate.reference import fire, leak

RESETS = tuple(Reset)
LEAKS = (0, 0, 0, 1, 300, 2048, 4095)
CURRENT_DECAYS = (FORGET, FORGET, FORGET, FORGET, 3000, 512, 1)
DELAYS = (0, 0, 0, 0, 0, 1, 2, 5)
EXPONENTS = (0, 0, 0, 0, 1, 3, 7)  # all weights of a bundle may be multiples of 2**exponent
STEPS = (1, 8)
SAMPLES = (1, 3)
SEEDS = st.integers(0, 2**32 - 1)
Run = tuple[Program, IntArray]


def runs(
    *,
    resets: tuple[Reset, ...] = RESETS,
    leaks: tuple[int, ...] = LEAKS,
    current_decays: tuple[int, ...] = CURRENT_DECAYS,
    delays: tuple[int, ...] = DELAYS,
    exponents: tuple[int, ...] = EXPONENTS,
    steps: tuple[int, int] = STEPS,
    samples: tuple[int, int] = SAMPLES,
) -> st.SearchStrategy[Run]:
    """Draw a program with codes (samples, *shape) for it, see `generate`."""
    return SEEDS.map(
        lambda seed: generate(
            seed,
            resets=resets,
            leaks=leaks,
            current_decays=current_decays,
            delays=delays,
            exponents=exponents,
            steps=steps,
            samples=samples,
        )
    )


def programs(
    *,
    resets: tuple[Reset, ...] = RESETS,
    leaks: tuple[int, ...] = LEAKS,
    current_decays: tuple[int, ...] = CURRENT_DECAYS,
    delays: tuple[int, ...] = DELAYS,
    exponents: tuple[int, ...] = EXPONENTS,
    steps: tuple[int, int] = STEPS,
) -> st.SearchStrategy[Program]:
    """Draw a program, see `generate`."""
    return runs(
        resets=resets,
        leaks=leaks,
        current_decays=current_decays,
        delays=delays,
        exponents=exponents,
        steps=steps,
    ).map(lambda run: run[0])


def generate(
    seed: int,
    *,
    resets: tuple[Reset, ...] = RESETS,
    leaks: tuple[int, ...] = LEAKS,
    current_decays: tuple[int, ...] = CURRENT_DECAYS,
    delays: tuple[int, ...] = DELAYS,
    exponents: tuple[int, ...] = EXPONENTS,
    steps: tuple[int, int] = STEPS,
    samples: tuple[int, int] = SAMPLES,
) -> Run:
    """Return a valid program within the formats of `Numbers()`, and codes for it.

    `steps` and `samples` are the fewest and the most.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers((1, 2, 2), (4, 7, 7)))
    if rng.random() < 0.3:
        shape = (int(rng.integers(1, 6)),)
    levels = int(rng.choice([1, 3, 15, 255]))
    zero_point = rng.integers(0, levels + 1, shape[0])
    coding = ImageInput(shape=shape, levels=levels, zero_point=integers(zero_point))
    time = int(rng.integers(steps[0], steps[1] + 1))
    batch = int(rng.integers(samples[0], samples[1] + 1))
    pixels = rng.integers(0, levels + 1, (batch, *shape))
    codes = integers(pixels - zero_point.reshape(-1, *[1] * (len(shape) - 1)))
    every_step = np.broadcast_to(codes[:, None], (batch, time, *shape))
    emitted: dict[str, npt.NDArray[np.generic]] = {INPUT: every_step}
    layers: list[Layer] = []
    for i in range(int(rng.integers(1, 5))):
        kinds = resets, leaks, current_decays
        layer, spikes = _layer(rng, f"layer{i}", emitted, levels, kinds, (delays, exponents))
        layers.append(layer)
        emitted[layer.name] = spikes
    readout: Accumulator | SpikeCount = SpikeCount()
    if rng.random() < 0.5:
        source = layers[-1]
        bundle = _matrix(rng, "out", source.name, source.size, int(rng.integers(1, 5)), 1)
        bundle = _late(rng, bundle, delays, exponents)
        bias = _bias(rng, bundle.weight.shape[0])
        readout = Accumulator(
            name="out", shape=bias.shape, synapses=(bundle,), bias=bias, scale=1.0
        )
    program = Program(input=coding, layers=tuple(layers), readout=readout, steps=time)
    return check_program(program), codes


def _layer(
    rng: np.random.Generator,
    name: str,
    emitted: Mapping[str, npt.NDArray[np.generic]],
    levels: int,
    kinds: tuple[tuple[Reset, ...], tuple[int, ...], tuple[int, ...]],
    synaptic: tuple[tuple[int, ...], tuple[int, ...]],
) -> tuple[Layer, npt.NDArray[np.bool_]]:
    """Return a layer that reads the newest source, and perhaps an older one; and its spikes."""
    shapes = {source: values.shape[2:] for source, values in emitted.items()}
    newest = list(shapes)[-1]
    peak = {source: levels if source == INPUT else 1 for source in shapes}
    first = _bundle(rng, name, newest, shapes[newest], peak[newest])
    shape = _target(first, shapes[newest])
    bundles = [first]
    if len(shapes) > 1 and rng.random() < 0.5:  # a residual branch
        fitting = [s for s, of in shapes.items() if len(shape) == 1 or len(of) == 3]
        other = str(rng.choice(fitting))
        branch = f"{name}.{other}"
        bundles.append(_branch(rng, branch, other, shapes[other], shape, peak[other]))
    bundles = [_late(rng, bundle, *synaptic) for bundle in bundles]
    bias = _bias(rng, shape[0])
    drive = np.zeros((*emitted[newest].shape[:2], *shape), dtype=np.int64)
    for bundle in bundles:
        source = shapes[bundle.source]
        arriving = delayed(emitted[bundle.source], bundle.delay)
        flat = arriving.reshape(-1, *source).astype(np.int32)
        drive += currents(bundle, source, flat).reshape(drive.shape)
    resets, leaks, current_decays = kinds
    reset, decay = resets[rng.integers(len(resets))], int(rng.choice(leaks))
    layer = Layer(
        name=name,
        shape=shape,
        synapses=tuple(bundles),
        bias=bias,
        threshold=1,
        decay=decay,
        reset=reset,
        scale=1.0,
        current_decay=int(rng.choice(current_decays)),
    )
    layer = replace(layer, threshold=_threshold(rng, layer, drive))
    return layer, fire(layer, drive)


def _threshold(rng: np.random.Generator, layer: Layer, arriving: npt.NDArray[np.int64]) -> int:
    """Return a membrane that occurs before the first spike, or a unit beside it.

    A hard reset gets the form 64 k + 1, as `quantize` chooses it for Loihi.
    """
    bias = layer.bias.reshape(-1, *[1] * (len(layer.shape) - 1)).astype(np.int64) << ALIGN
    u = np.zeros_like(arriving[:, 0])
    v = np.zeros_like(u)
    course = []
    for t in range(arriving.shape[1]):
        u = leak(u, layer.current_decay) + (arriving[:, t] << ALIGN)
        v = np.clip(leak(v, layer.decay) + u + bias, -V_MAX, V_MAX)
        course.append(v)
    reached = np.unique(np.concatenate([step.reshape(-1) for step in course]))
    reached = reached[reached > 1 << ALIGN]
    level = int(rng.choice(reached)) if len(reached) else int(rng.integers(1, 200)) << ALIGN
    level += int(rng.choice([0, 0, 1, -1]))
    match layer.reset:
        case Reset.SUBTRACT:
            return level
        case Reset.ZERO:
            return (((level - 1) >> ALIGN) << ALIGN) + 1
        case _:
            unreachable(layer.reset)


def _bundle(rng: np.random.Generator, name: str, source: str, shape: Shape, peak: int) -> Synapses:
    """Return synapses of any kind that read `source`."""
    if len(shape) == 1 or rng.random() < 0.25:
        return _matrix(rng, name, source, prod(shape), int(rng.integers(1, 6)), peak)
    channels, height, width = shape
    groups = int(rng.choice([g for g in (1, 2, 3) if channels % g == 0]))
    padding = tuple(int(p) for p in rng.integers(0, 2, 2))
    kernel = [
        int(rng.integers(1, min(3, size + 2 * pad) + 1))
        for size, pad in zip((height, width), padding, strict=True)
    ]
    stride = tuple(int(s) for s in rng.integers(1, 3, 2))
    size = (groups * int(rng.integers(1, 4)), channels // groups, *kernel)
    return Synapses(
        name=name,
        source=source,
        weight=_weights(rng, size, peak),
        kind=Convolution(
            stride=(stride[0], stride[1]), padding=(padding[0], padding[1]), groups=groups
        ),
    )


def _late(
    rng: np.random.Generator, bundle: Synapses, delays: tuple[int, ...], exponents: tuple[int, ...]
) -> Synapses:
    """Return synapses with a delay and a weight exponent; those from the image have none."""
    if bundle.source == INPUT:
        return bundle
    room = CURRENT_MAX // 3 // (127 * prod(bundle.weight.shape[1:]))
    unit = 1 << min(int(rng.choice(exponents)), max(room.bit_length() - 1, 0))
    weight = convert(bundle.weight, lambda values: values * unit, np.int32)
    return replace(bundle, weight=weight, delay=int(rng.choice(delays)))


def _branch(
    rng: np.random.Generator, name: str, source: str, shape: Shape, target: Shape, peak: int
) -> Synapses:
    """Return synapses from `source` onto a given target shape: a matrix, or a convolution."""
    if len(target) == 1:
        return _matrix(rng, name, source, prod(shape), target[0], peak)
    sizes = list(zip(shape[1:], target[1:], strict=True))
    kernel = [abs(size - wanted) + 1 for size, wanted in sizes]
    padding = [max(0, wanted - size) for size, wanted in sizes]
    weight = _weights(rng, (target[0], shape[0], *kernel), peak)
    kind = Convolution(stride=(1, 1), padding=(padding[0], padding[1]), groups=1)
    return Synapses(name=name, source=source, weight=weight, kind=kind)


def _matrix(
    rng: np.random.Generator, name: str, source: str, pre: int, post: int, peak: int
) -> Synapses:
    weight = _weights(rng, (post, pre), peak)
    return Synapses(name=name, source=source, weight=weight, kind=FullyConnected())


def _weights(rng: np.random.Generator, shape: Shape, peak: int) -> IntWeight:
    """Return int8 weights, dense or sparse, so small that currents of `peak` stay in 24 bits."""
    most = min(127, max(1, CURRENT_MAX // 3 // (prod(shape[1:]) * peak)))
    values = rng.integers(-most, most + 1, shape) + rng.integers(0, 2)  # a slight excitation
    values = np.clip(values, -most, most) * (rng.random(shape) < rng.choice([1.0, 0.5, 0.2, 0.03]))
    return sparse(integers(values)) if rng.random() < 0.5 else Dense(integers(values))


def _bias(rng: np.random.Generator, size: int) -> IntArray:
    return integers(rng.integers(-30, 51, size) * (rng.random(size) < 0.7))


def _target(bundle: Synapses, source: Shape) -> Shape:
    match bundle.kind:
        case FullyConnected():
            return bundle.weight.shape[:1]
        case Convolution(stride=stride, padding=padding):
            return convolved(source, bundle.weight.shape, stride, padding)
        case _:
            unreachable(bundle.kind)
