"""How an image gets into the network of a netx file."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from snnc.errors import Issue
from snnc.frontend.netx.layers import BIAS_MAX, BIAS_MIN, InputLayer
from snnc.frontend.netx.notes import Notes, Readout, Storage
from snnc.frontend.netx.populations import noted_names, population, stored_as
from snnc.ir.program import (
    FORGET,
    INPUT,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Synapses,
)
from snnc.ir.weights import Csr, Dense, IntWeight, Shape, freeze, integers


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How images get in and the answer out, see `snnc.frontend.netx.Wanted`."""

    steps: int
    levels: int | None
    shape: Shape | None
    pixels: tuple[float, float] | None
    readout: Readout | None


def entry(
    first: InputLayer, coding: Coding, notes: Notes | None, issues: list[Issue]
) -> tuple[ImageInput, Layer | None]:
    """Return the image, and the neurons it drives if the input layer has any."""
    shape = first.shape if coding.shape is None else coding.shape
    if coding.shape is not None and len(first.shape) != 1:
        problem = f"has the shape {first.shape} in the file already"
        issues.append(Issue(first.place, problem, "leave out the shape (--shape)", "shape"))
    elif coding.shape is not None and prod(shape) != first.shape[0]:
        problem = f"has {first.shape[0]} neurons, the shape {shape} has {prod(shape)}"
        issues.append(Issue(first.place, problem, "give the shape of that vector", "shape"))
    zero_point = integers(np.zeros(shape[0]) if notes is None else notes.zero_point)
    if first.neuron is None:
        levels, base = _constant(first, coding, notes, issues), 0
    else:
        levels, base = _transform(first, coding, issues)
    image = ImageInput(shape=shape, levels=levels, zero_point=zero_point)
    if first.neuron is None:
        return image, None
    sign = 1 if first.weight > 0 else -1
    noted = noted_names(first, 0, notes, (0,))
    bias = integers(base + sign * zero_point.astype(np.int64))
    bundle = Synapses(
        name=noted.bundles[0].name,
        source=INPUT,
        weight=_each(shape, sign, noted.bundles[0].storage),
        kind=_one_by_one(shape),
    )
    neuron = replace(first.neuron, current_decay=FORGET)  # a bias does not enter the current
    return image, population(noted, shape, (bundle,), bias, neuron)


def _constant(first: InputLayer, coding: Coding, notes: Notes | None, issues: list[Issue]) -> int:
    """Return the levels of an image whose codes are graded spikes."""
    if coding.pixels is not None:
        problem = "has no neuron whose bias the image would be, so its pixels need no range"
        issues.append(Issue(first.place, problem, "leave out the range (--pixels)", "pixels"))
    if coding.levels is not None:
        return coding.levels
    if notes is not None:
        return notes.levels
    problem = "has no neuron, so spikes feed the network, and an image is no spikes"
    remedy = "let its codes enter as graded spikes at every step (--input constant)"
    issues.append(Issue(first.place, problem, remedy, "spike-input"))
    return 1


def _transform(first: InputLayer, coding: Coding, issues: list[Issue]) -> tuple[int, int]:
    """Return the levels of the image and the bias beside them, see `snnc.frontend.netx`."""
    if coding.levels is not None:
        problem = "has a neuron, whose bias is the image, so no spikes feed the network"
        remedy = "leave out the levels (--input constant)"
        issues.append(Issue(first.place, problem, remedy, "constant-input"))
    low, high = coding.pixels or (0.0, 1.0)
    levels, base = abs(first.weight) * (high - low), first.bias + first.weight * low
    whole = math.isfinite(levels) and levels == round(levels) and base == round(base)
    if not whole or levels < 1:
        problem = (
            f"weight {first.weight} and bias {first.bias} give {levels:g} levels and bias "
            f"{base:g} for pixels from {low:g} to {high:g}, not whole numbers from 1 on"
        )
        remedy = "pass the range of the images in training (--pixels)"
        issues.append(Issue(first.place, problem, remedy, "pixels"))
        return 1, 0
    white = base + math.copysign(levels, first.weight)
    if min(base, white) < BIAS_MIN or max(base, white) > BIAS_MAX:
        problem = f"its bias goes from {base:g} to {white:g}, which lava-nc's 16 bits wrap"
        issues.append(Issue(first.place, problem, "train with a smaller weight", "bias-range"))
        return 1, 0
    return round(levels), round(base)


def _each(shape: Shape, value: int, storage: Storage) -> IntWeight:
    """Return the weight with which each neuron reads its own pixel."""
    if len(shape) == 3:
        return stored_as(integers(np.full((shape[0], 1, 1, 1), value)), storage)
    if storage is Storage.DENSE:
        return Dense(integers(np.eye(shape[0]) * value))
    return Csr(
        shape=(shape[0], shape[0]),
        data=integers(np.full(shape[0], value)),
        indices=integers(np.arange(shape[0])),
        indptr=freeze(np.arange(shape[0] + 1), np.int64),
    )


def _one_by_one(shape: Shape) -> Convolution | FullyConnected:
    if len(shape) == 1:
        return FullyConnected()
    return Convolution(stride=(1, 1), padding=(0, 0), groups=shape[0])
