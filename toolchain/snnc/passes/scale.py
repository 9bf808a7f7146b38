"""One population at one scale: which scales its formats allow, and the integers of each.

A weight beyond its format saturates: it becomes the largest weight there is. Bias, threshold
and current never do, so a scale at which one of them leaves its format is refused.

Bundles that are summed share a scale with each other, the bias and the threshold. But the 1 of a
residual shortcut may be many times the largest weight beside it, or far below. So the integers
of a bundle in a sum may be multiples of a power of two, as on both Loihis (`weight_exp` in
lava-nc 0.10, `proc/dense`), and the scale is the one at which the smallest weights fill their
format. Lava's Conv has no exponent (lava issue 803), and unrolled a full convolution is large; so
there the products have to fit the target's own width, which narrower weights leave room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf

import numpy as np

from snnc.errors import InvalidGraph, Issue, unreachable
from snnc.ir.graph import Conv2d, Fire, Linear, Reset, Synaptic
from snnc.ir.program import INPUT, Accumulator, Convolution, FullyConnected, Layer, Synapses
from snnc.ir.weights import (
    FloatArray,
    IntWeight,
    common_exponent,
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

Exponents = Mapping[str, int]  # of each bundle of synapses


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
    exponent_max: int  # of the power of two that a bundle in a sum may have
    kernel_exponent_max: int  # the same for full convolutions


def formats(
    population: FloatPopulation, numbers: Numbers, *, bits: int | None, steps: int
) -> Formats:
    """Return the formats of a population on a target, its weights `bits` wide if given."""
    weights = numbers.weight_max if bits is None else min(numbers.weight_max, weight_max(bits))
    summed = len(population.bundles) > 1
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
        exponent_max=numbers.weight_exponent_max if summed else 0,
        kernel_exponent_max=min(room, numbers.kernel_exponent_max) if summed else 0,
    )


def exponents(
    population: FloatPopulation, limits: Formats, scale: float, *, clipped: int = 0
) -> Exponents:
    """Map each bundle to the least e at which its weights, as multiples of 2**e, do not saturate.

    Or to the largest that it may have. With `clipped` each e above 0 is so much less: the
    largest weights saturate, and all others are finer.
    """
    found = {}
    for bundle in population.bundles:
        largest = float(np.abs(stored(bundle.weight)).max(initial=0.0)) * scale
        highest = exponent_max(bundle, limits)
        fitting = (e for e in range(highest) if np.rint(largest / 2**e) <= limits.weight_max)
        found[bundle.name] = max(next(fitting, highest) - clipped, 0)
    return found


def exponent_max(bundle: FloatBundle, limits: Formats) -> int:
    """Return the largest exponent that the weights of a bundle may have."""
    if bundle.source == INPUT:  # the host may multiply, which shifts nothing
        return 0
    narrow = isinstance(bundle.op, Linear) or bundle.weight.shape[1] == 1
    return limits.exponent_max if narrow else limits.kernel_exponent_max


def largest_scale(population: FloatPopulation, limits: Formats) -> float:
    """Return the largest scale at which every integer fits its format and no weight saturates."""
    scale = min(_ceilings(population, limits).values())
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
    """Return the largest scale at which no weight saturates and some fill their format."""
    fits, filled = [inf], [0.0]
    for bundle in population.bundles:
        values = stored(bundle.weight)
        if values.any():
            filled.append(_headroom(limits.weight_max, values))
            fits.append(_headroom(limits.weight_max << exponent_max(bundle, limits), values))
    return min(*fits, max(filled)) if len(filled) > 1 else inf


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


def at_scale(
    population: FloatPopulation, limits: Formats, scale: float, given: Exponents | None = None
) -> Layer | Accumulator:
    """Return the integers of a population at a scale, and at the exponents that are given.

    Raises:
        InvalidGraph: something but a weight leaves its format, or rounding would silence the
            population, because its weights or its threshold become 0.
    """
    powers = exponents(population, limits, scale) if given is None else given
    synapses = tuple(
        _synapses(bundle, limits, scale, powers[bundle.name]) for bundle in population.bundles
    )
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
    powers = exponents(population, limits, scale)
    for bundle in population.bundles:
        whole = integer_weights(bundle, limits, scale, powers[bundle.name])
        total = total + row_magnitudes(whole) * bundle.peak
    return float(total.max(initial=0.0))


def integer_weights(bundle: FloatBundle, limits: Formats, scale: float, exponent: int) -> IntWeight:
    """Return the weights of a bundle at a scale, multiples of 2**exponent; stored zeros stay."""
    most, unit = limits.weight_max, 1 << exponent
    return convert(
        bundle.weight,
        lambda values: np.clip(np.rint(values * (scale / unit)), -most, most) * unit,
        np.int32,
    )


def _synapses(bundle: FloatBundle, limits: Formats, scale: float, exponent: int) -> Synapses:
    return Synapses(
        name=bundle.name,
        source=bundle.source,
        weight=drop_zeros(integer_weights(bundle, limits, scale, exponent)),
        kind=_kind(bundle.op),
    )


def units(population: Layer | Accumulator) -> tuple[int, ...]:
    """Return the power of two of which the weights of each bundle are multiples.

    Bundles have one in sums alone. It may be larger than the one that was chosen, but not where
    a weight is the largest of its format, which is odd.
    """
    if len(population.synapses) == 1:
        return (1,)
    return tuple(1 << common_exponent(bundle.weight) for bundle in population.synapses)


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
