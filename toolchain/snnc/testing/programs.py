"""Hypothesis strategies for programs and inputs that exercise a target.

Programs are small and their neurons sit near the threshold, where bugs are. They cover
dense and sparse matrices, strided, padded, grouped and pooled convolutions, residual sums,
image synapses into later layers, leaks, both resets and both readouts.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from snnc.errors import unreachable
from snnc.ir.check import check_program
from snnc.ir.geometry import convolved
from snnc.ir.graph import Reset
from snnc.ir.program import (
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
from snnc.ir.weights import Dense, IntArray, IntWeight, Shape, integers, sparse
from snnc.semantics.neuron import ALIGN


@st.composite
def programs(
    draw: st.DrawFn,
    *,
    resets: tuple[Reset, ...] = tuple(Reset),
    leaks: tuple[int, ...] = (0, 0, 0, 1, 300, 4095),
    steps: tuple[int, int] = (1, 6),
) -> Program:
    """Draw a valid program that keeps the formats of `snnc.passes.numbers.Numbers`.

    A hard reset has a threshold of the form 64 k + 1, as `quantize` chooses them.
    """
    spatial = draw(st.booleans())
    shape: Shape = (
        (draw(st.integers(1, 3)), draw(st.integers(2, 5)), draw(st.integers(2, 5)))
        if spatial
        else (draw(st.integers(1, 5)),)
    )
    levels = draw(st.sampled_from([1, 3, 15, 255]))
    coding = ImageInput(
        shape=shape,
        levels=levels,
        zero_point=integers(
            draw(st.lists(st.integers(0, levels), min_size=shape[0], max_size=shape[0]))
        ),
    )
    known: dict[str, Shape] = {INPUT: shape}
    layers: list[Layer] = []
    for i in range(draw(st.integers(1, 4))):
        layer = draw(_layers(f"layer{i}", known, resets, leaks, levels))
        layers.append(layer)
        known[layer.name] = layer.shape
    readout: Accumulator | SpikeCount = SpikeCount()
    if draw(st.booleans()):
        last = layers[-1]
        bundle = draw(_matrices("out", last.name, prod(last.shape), draw(st.integers(1, 4))))
        bias = draw(_biases(bundle.weight.shape[0]))
        readout = Accumulator(
            name="out", shape=bias.shape, synapses=(bundle,), bias=bias, scale=1.0
        )
    return check_program(
        Program(
            input=coding,
            layers=tuple(layers),
            readout=readout,
            steps=draw(st.integers(*steps)),
        )
    )


@st.composite
def runs(
    draw: st.DrawFn,
    *,
    resets: tuple[Reset, ...] = tuple(Reset),
    leaks: tuple[int, ...] = (0, 0, 0, 1, 300, 4095),
    samples: tuple[int, int] = (1, 3),
) -> tuple[Program, IntArray]:
    """Draw a program with codes (samples, *shape) for it."""
    program = draw(programs(resets=resets, leaks=leaks))
    coding = program.input
    shape = (draw(st.integers(*samples)), *coding.shape)
    pixels = draw(hnp.arrays(np.int32, shape, elements=st.integers(0, coding.levels)))
    return program, pixels - coding.zero_point.reshape(-1, *[1] * (len(coding.shape) - 1))


@st.composite
def _layers(
    draw: st.DrawFn,
    name: str,
    known: dict[str, Shape],
    resets: tuple[Reset, ...],
    leaks: tuple[int, ...],
    levels: int,
) -> Layer:
    source = list(known)[-1]
    first = draw(_bundles(name, source, known[source]))
    shape = _shape(first, known[source])
    bundles = [first]
    if len(known) > 1 and draw(st.booleans()):  # a residual branch from anywhere before
        maps = [other for other, of in known.items() if len(shape) == 1 or len(of) == 3]
        other = draw(st.sampled_from(maps))
        bundles.append(draw(_branches(f"{name}.{other}", other, known[other], shape)))
    bundles = [_tamed(bundle, levels) if bundle.source == INPUT else bundle for bundle in bundles]
    reset = draw(st.sampled_from(resets))
    level = draw(st.integers(1, 150)) * (levels if INPUT in {b.source for b in bundles} else 1)
    fine = draw(st.integers(0, 63)) if reset is Reset.SUBTRACT else 1
    return Layer(
        name=name,
        shape=shape,
        synapses=tuple(bundles),
        bias=draw(_biases(shape[0])),
        threshold=((level - 1) << ALIGN) + max(fine, 1),
        decay=draw(st.sampled_from(leaks)),
        reset=reset,
        scale=1.0,
    )


def _tamed(bundle: Synapses, levels: int) -> Synapses:
    """Keep the currents of 255 levels of grey within a 24-bit membrane: quarter the weights."""
    if levels < 255:
        return bundle
    match bundle.weight:
        case Dense(values=values):
            return replace(bundle, weight=Dense(integers(values // 4)))
        case _:
            return replace(bundle, weight=replace(bundle.weight, data=bundle.weight.data // 4))


@st.composite
def _bundles(draw: st.DrawFn, name: str, source: str, shape: Shape) -> Synapses:
    """Draw synapses of any kind that read `source`."""
    if len(shape) == 1 or draw(st.integers(0, 3)) == 0:
        return draw(_matrices(name, source, prod(shape), draw(st.integers(1, 5))))
    channels, height, width = shape
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    padding = (draw(st.integers(0, 1)), draw(st.integers(0, 1)))
    kernel = (
        draw(st.integers(1, min(3, height + 2 * padding[0]))),
        draw(st.integers(1, min(3, width + 2 * padding[1]))),
    )
    out = groups * draw(st.integers(1, 2))
    weight = draw(_weights((out, channels // groups, *kernel)))
    stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    kind = Convolution(stride=stride, padding=padding, groups=groups)
    return Synapses(name=name, source=source, weight=weight, kind=kind)


@st.composite
def _branches(draw: st.DrawFn, name: str, source: str, shape: Shape, target: Shape) -> Synapses:
    """Draw synapses from `source` onto a given target shape: a matrix, or a convolution."""
    if len(target) == 1:
        return draw(_matrices(name, source, prod(shape), target[0]))
    sizes = list(zip(shape[1:], target[1:], strict=True))
    kernel = [abs(size - wanted) + 1 for size, wanted in sizes]
    padding = tuple(max(0, wanted - size) for size, wanted in sizes)
    weight = draw(_weights((target[0], shape[0], *kernel)))
    kind = Convolution(stride=(1, 1), padding=(padding[0], padding[1]), groups=1)
    return Synapses(name=name, source=source, weight=weight, kind=kind)


@st.composite
def _matrices(draw: st.DrawFn, name: str, source: str, pre: int, post: int) -> Synapses:
    weight = draw(_weights((post, pre)))
    return Synapses(name=name, source=source, weight=weight, kind=FullyConnected())


@st.composite
def _weights(draw: st.DrawFn, shape: Shape) -> IntWeight:
    """Draw int8 weights, dense or sparse, all-zero ones and rows included."""
    values = draw(hnp.arrays(np.int32, shape, elements=st.integers(-127, 127), fill=st.just(0)))
    return sparse(values) if draw(st.booleans()) else Dense(integers(values))


@st.composite
def _biases(draw: st.DrawFn, size: int) -> IntArray:
    return integers(draw(st.lists(st.integers(-40, 40), min_size=size, max_size=size)))


def _shape(bundle: Synapses, source: Shape) -> Shape:
    match bundle.kind:
        case FullyConnected():
            return bundle.weight.shape[:1]
        case Convolution(stride=stride, padding=padding):
            return convolved(source, bundle.weight.shape, stride, padding)
        case _:
            unreachable(bundle.kind)
