"""One population at one scale: which scales its formats allow, and the integers of each.

A weight beyond its format saturates: it becomes the largest weight there is. Bias, threshold
and current never do, so a scale at which one of them leaves its format is refused.

All that adds to a membrane shares a scale: bundles of synapses, bias and threshold. But the 1
of a residual shortcut may be many times the largest weight beside it, or far below, and at 2
bits a whole weight is a coarse unit for a bias. So the integers of a bundle may be multiples of
a power of two, as on both Loihis (`weight_exp` in lava-nc 0.10, `proc/dense`): as long as the
products fit the target's own width, and beyond it for a bundle of few synapses beside others.
The scale is then the one at which the smallest weights fill their format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from math import floor, inf, log2

import numpy as np

from snnc.errors import InvalidGraph, Issue, unreachable
from snnc.ir.graph import Conv2d, Fire, Linear, Reset, Synaptic
from snnc.ir.program import INPUT, Accumulator, Convolution, FullyConnected, Layer, Synapses
from snnc.ir.weights import (
    FloatArray,
    IntWeight,
    convert,
    drop_zeros,
    integers,
    row_magnitudes,
    stored,
)
from snnc.passes.numbers import Numbers, weight_max
from snnc.passes.populations import FloatBundle, FloatPopulation
from snnc.semantics.neuron import ALIGN, CURRENT_MAX, DECAY_BITS

# Thresholds that fit between 0 and the floor of the membrane: inhibition adds up. Ours: as many
# steps of inhibition by a whole threshold fit before the membrane saturates. The 131071 // 8
# units that this leaves a threshold narrow 8-bit weights only where none is 1/129 of it.
ROOM = 8


class Limit(Enum):
    """What keeps the scale of a population from being larger."""

    WEIGHTS = "weights"
    BIAS = "bias"
    THRESHOLD = "threshold"
    CURRENT = "current"
    IMAGE_CURRENT = "image current"  # the current of a population that reads the image


@dataclass(frozen=True, kw_only=True)
class Formats:
    """The largest magnitude of each integer of one population, and its largest scale."""

    weight_max: int
    bias_max: int
    current_max: int
    scale_max: float  # at which the threshold fits, and the membrane has its `ROOM`
    exponent_max: int  # of the power of two that a matrix may have, see `exponent`
    convolution_exponent_max: int
    shortcut_exponent_max: int  # of few synapses for each neuron that are summed with others


def formats(
    population: FloatPopulation, numbers: Numbers, *, bits: int | None, steps: int
) -> Formats:
    """Return the formats of a population on a target, its weights `bits` wide if given."""
    weights = numbers.weight_max if bits is None else min(numbers.weight_max, weight_max(bits))
    room = (numbers.weight_max // weights).bit_length() - 1  # powers of two up to the target's
    biases = numbers.input_bias_max if population.on_host else numbers.bias_max
    if population.fire is None:
        current = min(numbers.current_max, numbers.accumulator_max // steps)
        limit = float(current)
    else:
        current = numbers.current_max
        highest = min(numbers.threshold_max, CURRENT_MAX // ROOM)
        limit = highest / float(population.fire.threshold)
    if any(bundle.source == INPUT for bundle in population.bundles):
        current = min(current, numbers.image_current_max)
    return Formats(
        weight_max=weights,
        bias_max=biases,
        current_max=current,
        scale_max=limit,
        exponent_max=min(room, numbers.weight_exponent_max),
        convolution_exponent_max=min(room, numbers.convolution_exponent_max),
        shortcut_exponent_max=numbers.weight_exponent_max if len(population.bundles) > 1 else 0,
    )


def exponent(bundle: FloatBundle, limits: Formats, scale: float) -> int:
    """Return the least e at which its weights, as multiples of 2**e, do not saturate.

    Or the largest that the bundle may have. Its products stay within the target's own width
    where it reads the image, which the host may multiply, and where it has full convolutions,
    for Lava's Conv has no exponent (lava issue 803) and unrolled they would be large.
    """
    largest = float(np.abs(stored(bundle.weight)).max(initial=0.0)) * scale
    highest = _exponent_max(bundle, limits)
    fitting = (e for e in range(highest) if np.rint(largest / 2**e) <= limits.weight_max)
    return next(fitting, highest)


def largest_weight(bundle: FloatBundle, limits: Formats) -> int:
    """Return the largest integer that a weight of a bundle can become."""
    return limits.weight_max << _exponent_max(bundle, limits)


def _exponent_max(bundle: FloatBundle, limits: Formats) -> int:
    matrix = isinstance(bundle.op, Linear)
    own = limits.exponent_max if matrix else limits.convolution_exponent_max
    if bundle.source != INPUT and (matrix or bundle.weight.shape[1] == 1):
        return max(own, limits.shortcut_exponent_max)
    return own


def largest_scale(population: FloatPopulation, limits: Formats) -> float:
    """Return the scale at which every integer fits its format and no weight saturates.

    It is the largest at which the smallest weights fill theirs; a power of two may be left.
    """
    scale = min(_ceilings(population, limits).values())
    finest = max((_headroom(limits.weight_max, each) for each in _weights(population)), default=inf)
    if finest < scale:
        scale = finest * 2.0 ** floor(log2(scale / finest * (1.0 + 1e-12)))  # a rounded quotient
    while (excess := _current(population, limits, scale) / limits.current_max) > 1.0:
        scale /= excess * (1.0 + 1e-6)  # rounding made the sum of the parts larger
    return scale


def limit_of(population: FloatPopulation, limits: Formats) -> Limit:
    """Return what keeps `largest_scale` from being larger; of several, one."""
    ceilings = _ceilings(population, limits)
    scale = min(ceilings.values())
    limit = min(ceilings, key=lambda each: ceilings[each])
    if _current(population, limits, scale) > limits.current_max:  # after rounding
        limit = Limit.CURRENT
    if limit is Limit.CURRENT and any(bundle.source == INPUT for bundle in population.bundles):
        return Limit.IMAGE_CURRENT
    return limit


def _ceilings(population: FloatPopulation, limits: Formats) -> dict[Limit, float]:
    """Return the largest scale that each format allows, before anything is rounded."""
    reach = sum(bundle.reach for bundle in population.bundles)
    return {
        Limit.WEIGHTS: _weights_ceiling(population, limits),
        Limit.BIAS: _headroom(limits.bias_max, population.bias),
        Limit.CURRENT: _headroom(limits.current_max, np.asarray(reach + np.abs(population.bias))),
        Limit.THRESHOLD: limits.scale_max,
    }


def _weights_ceiling(population: FloatPopulation, limits: Formats) -> float:
    """Return the largest scale at which no weight saturates and none is finer than it helps.

    The bias and the threshold are the finer, the larger the scale; so it is such that the
    smallest weights fill their format at the exponent that every bundle may have.
    """
    fits, filled = [], []
    for bundle in population.bundles:
        values = stored(bundle.weight)
        fits.append(_headroom(largest_weight(bundle, limits), values))
        common = min(_exponent_max(bundle, limits), limits.exponent_max)
        filled += [_headroom(limits.weight_max << common, values)] if values.any() else []
    return min(*fits, max(filled, default=inf))


def _weights(population: FloatPopulation) -> list[FloatArray]:
    """Return the weights of each bundle that has any but zeros."""
    found = (stored(bundle.weight) for bundle in population.bundles)
    return [values for values in found if values.any()]


def saturating_scale(population: FloatPopulation, limits: Formats) -> float:
    """Return `largest_scale`, or the least at which the threshold is a whole unit if that is more.

    With few bits the largest weight may be larger than the threshold. A scale that fits it
    has no integer for the threshold then, so weights have to saturate.
    """
    scale = largest_scale(population, limits)
    if population.fire is None:
        return scale
    least = 1.0 / float(population.fire.threshold)
    while least * float(population.fire.threshold) < 1.0:  # rounded down
        least = float(np.nextafter(least, np.inf))
    return max(scale, least)


def at_scale(population: FloatPopulation, limits: Formats, scale: float) -> Layer | Accumulator:
    """Return the integers of a population at a scale.

    Raises:
        InvalidGraph: something but a weight leaves its format, or rounding would silence the
            population, because its weights or its threshold become 0.
    """
    synapses = tuple(_synapses(bundle, limits, scale) for bundle in population.bundles)
    bias = np.rint(population.bias * scale)
    problems = [
        *_misfits(population, limits, scale, synapses, bias),
        *_losses(population, scale, synapses),
    ]
    if problems:
        raise InvalidGraph(problems)
    if population.fire is None:
        return Accumulator(
            name=population.name,
            shape=population.shape,
            synapses=synapses,
            bias=integers(bias),
            scale=scale,
        )
    fire = population.fire
    decay = decay_of(fire)
    return Layer(
        name=population.name,
        shape=population.shape,
        synapses=synapses,
        bias=integers(bias),
        threshold=_threshold(float(fire.threshold) * scale, fire.reset, decay),
        decay=decay,
        reset=fire.reset,
        scale=scale,
    )


def _misfits(
    population: FloatPopulation,
    limits: Formats,
    scale: float,
    synapses: Sequence[Synapses],
    bias: FloatArray,
) -> Iterator[Issue]:
    """Yield what leaves its format."""
    current = np.abs(bias)
    for bundle, whole in zip(population.bundles, synapses, strict=True):
        current = current + row_magnitudes(whole.weight) * bundle.peak
    said, remedy = f"at {scale:.6g} integer units for one", "use a smaller scale"
    for what, needs, limit, code in (
        ("its bias", np.abs(bias), limits.bias_max, "bias-range"),
        ("its current", current, limits.current_max, "current-range"),
    ):
        if (need := int(needs.max(initial=0.0))) > limit:
            problem = f"{said}, {what} reaches {need}, the limit is {limit}"
            yield Issue(population.name, problem, remedy, code, need=need, limit=limit)
    if scale > limits.scale_max * (1.0 + 1e-12):  # the limit is a rounded quotient
        problem = f"{said}, its threshold leaves the membrane no room for {ROOM} of it below 0"
        yield Issue(population.name, problem, remedy, "threshold-range")


def _losses(
    population: FloatPopulation, scale: float, synapses: Sequence[Synapses]
) -> Iterator[Issue]:
    """Yield what rounding would destroy."""
    for bundle, whole in zip(population.bundles, synapses, strict=True):
        if stored(bundle.weight).any() and not stored(whole.weight).any():
            yield Issue(
                bundle.name,
                f"every weight rounds to 0 at {scale:.3g} units for one threshold",
                "one weight, bias or pixel level is too large beside these; use fewer levels"
                if bundle.source == INPUT
                else "a weight or bias is too large beside these weights; use more bits, or let "
                "calibration choose the scale",
                "scale-too-small",
            )
    if population.fire is None:
        return
    level = float(population.fire.threshold) * scale
    if level < 1.0:
        yield Issue(
            population.name,
            f"its threshold is {level:.3g} units of its largest weight's format",
            "its weights are too large beside the threshold; retrain with a larger threshold",
            "scale-too-small",
        )


def decay_of(fire: Fire) -> int:
    """Return the leak of a neuron in parts of 2**DECAY_BITS."""
    return min(round((1.0 - fire.keep) * (1 << DECAY_BITS)), (1 << DECAY_BITS) - 1)


def _threshold(level: float, reset: Reset, decay: int) -> int:
    """Return the threshold in membrane units for a level in units of current.

    Loihi compares v > 64 vth, so a hard reset uses the form 64 vth + 1. Without a leak v is a
    multiple of 64 and v >= 64 n is the same as v >= 64 (n - 1) + 1; with one, 64 n + 1 is the
    nearest. A soft reset subtracts the threshold, so it keeps all its bits.
    """
    match reset:
        case Reset.ZERO if decay:
            return (round(level) << ALIGN) + 1
        case Reset.ZERO:
            return ((max(round(level), 1) - 1) << ALIGN) + 1
        case Reset.SUBTRACT:
            return max(round(level * (1 << ALIGN)), 1)
        case _:
            unreachable(reset)


def _current(population: FloatPopulation, limits: Formats, scale: float) -> float:
    """Return the largest |current| + |bias| after rounding at this scale."""
    total = np.abs(np.rint(population.bias * scale))
    for bundle in population.bundles:
        total = total + row_magnitudes(integer_weights(bundle, limits, scale)) * bundle.peak
    return float(total.max(initial=0.0))


def integer_weights(bundle: FloatBundle, limits: Formats, scale: float) -> IntWeight:
    """Return the weights of a bundle at a scale; stored zeros stay."""
    most, unit = limits.weight_max, 1 << exponent(bundle, limits, scale)
    return convert(
        bundle.weight,
        lambda values: np.clip(np.rint(values * (scale / unit)), -most, most) * unit,
        np.int32,
    )


def _synapses(bundle: FloatBundle, limits: Formats, scale: float) -> Synapses:
    return Synapses(
        name=bundle.name,
        source=bundle.source,
        weight=drop_zeros(integer_weights(bundle, limits, scale)),
        kind=_kind(bundle.op),
    )


def _kind(op: Synaptic) -> Convolution | FullyConnected:
    match op:
        case Conv2d(stride=stride, padding=padding, groups=groups):
            return Convolution(stride=stride, padding=padding, groups=groups)
        case Linear():
            return FullyConnected()
        case _:
            unreachable(op)


def _headroom(limit: int, values: FloatArray) -> float:
    peak = float(np.abs(values).max(initial=0.0))
    return limit / peak if peak > 0 else float("inf")
