"""Why a program cannot run on Loihi's neurons and synapses, every reason at once.

The limits are those of lava-nc 0.10.0's fixed-point models, which keep to Loihi 2's formats
(`lava/proc/lif/models.py`, `lava/proc/dense/models.py`). Several of them are not enforced by
Lava: it wraps, truncates or never spikes, and says nothing. Hence they are checked here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from snnc.errors import Issue, unreachable
from snnc.frontend.netx import layers as netx_layers
from snnc.ir.graph import Reset
from snnc.ir.program import INPUT, Accumulator, Layer, Program
from snnc.ir.weights import IntArray, stored
from snnc.semantics.neuron import ALIGN, CURRENT_MAX, DECAY_BITS, V_MAX

from snnc_targets.loihi.bounds import image_bounds, largest_logit, lasting_bounds
from snnc_targets.loihi.lowering import Image, Lowering
from snnc_targets.loihi.mantissas import (
    EXPONENT_MAX,
    WEIGHT_MAX,
    largest_weight,
    weight_exponent,
)
from snnc_targets.loihi.plan import Form, image_form, lag_of_each, lasts, wait

BIAS_BITS = 13  # of a bias mantissa, sign included
BIAS_MIN, BIAS_MAX = -(1 << BIAS_BITS - 1), (1 << BIAS_BITS - 1) - 1
BIAS_EXP_MAX = 7  # bias exponent, 3 bits; exponent 6 is one unit of current
VTH_MAX = CURRENT_MAX  # threshold mantissa: 17 bits, as far as a membrane reaches
DECAY_MAX = (1 << DECAY_BITS) - 1
DELAY_MAX = 63  # steps, 6 bits: `PyDelaySparseModelBitAcc`
CHIP_DELAY_MAX = netx_layers.DELAY_MAX  # on both chips: Davies 2018; lava-dl's netx for Loihi 2


_BEYOND = f", or 2**e times as much in a bundle of multiples of 2**e, e up to {EXPONENT_MAX}"


def issues(program: Program, how: Lowering, *, delay_max: int) -> tuple[Issue, ...]:
    """Return every reason the program cannot run; empty when it can.

    `delay_max`: the steps that a synapse can hold a spike, `DELAY_MAX` or `CHIP_DELAY_MAX`.
    """
    lags = lag_of_each(program, how.image)
    found: list[Issue] = []
    for population in program.populations:
        found += _weights(population)
        found += _current(program, population)
        found += _delays(population, lags, delay_max)
        match population:
            case Layer():
                found += _threshold(population)
                found += _decay(population)
                found += _bias(program, population, how.image)
            case Accumulator():
                found += _readout(program, population)
            case _:
                unreachable(population)
    return (*found, *_disconnected(program))


def bias_exponent(bias: IntArray) -> int | None:
    """Return the exponent with which mantissa * 2**exponent equals bias * 64; None if none does.

    Exponent 6 has mantissa = bias, 7 has mantissa = bias / 2; smaller ones only waste range.

    >>> bias_exponent(np.array([4095])), bias_exponent(np.array([8190])), bias_exponent(
    ...     np.array([8189])
    ... )
    (6, 7, None)
    """
    for exponent in (ALIGN, BIAS_EXP_MAX):
        unit = 1 << (exponent - ALIGN)
        mantissa = bias // unit
        exact = (mantissa * unit == bias).all()
        if exact and (mantissa >= BIAS_MIN).all() and (mantissa <= BIAS_MAX).all():
            return exponent
    return None


def image_exponent(program: Program, layer: Layer) -> int | None:
    """Return the exponent with which a bias holds what the image adds; None if none does.

    As `bias_exponent`, of whatever any image makes of the current: exponent 7 needs even weights.
    """
    largest = int(image_bounds(program, layer).max())
    weights = [stored(s.weight) for s in layer.synapses if s.source == INPUT]
    values = [layer.bias, *weights]
    if largest <= BIAS_MAX:
        return ALIGN
    if largest <= 2 * BIAS_MAX and not any((value % 2).any() for value in values):
        return BIAS_EXP_MAX
    return None


def _weights(population: Layer | Accumulator) -> Iterator[Issue]:
    for synapses in population.synapses:
        if weight_exponent(synapses) is None:
            largest = largest_weight(synapses)
            yield Issue(
                synapses.name,
                f"a weight reaches {largest} in magnitude, the limit is {WEIGHT_MAX}"
                + (_BEYOND if synapses.source != INPUT else ""),
                "quantize for loihi: snnc compile --target loihi",
                "weight-range",
                need=largest,
                limit=WEIGHT_MAX,
            )


def _current(program: Program, population: Layer | Accumulator) -> Iterator[Issue]:
    bounds = lasting_bounds(program, population)
    neuron = np.unravel_index(int(bounds.argmax()), bounds.shape)
    need = int(bounds[neuron])
    if need > CURRENT_MAX:
        within = f" within {program.steps} steps" if lasts(population) else ""
        yield Issue(
            population.name,
            f"the current of neuron {tuple(int(i) for i in neuron)} can reach {need}{within}, "
            f"Loihi's 24-bit current holds {CURRENT_MAX}",
            "quantize for loihi (it lowers the scale), or prune the layer",
            "current-range",
            need=need,
            limit=CURRENT_MAX,
        )


def _delays(
    population: Layer | Accumulator, lags: dict[str, int], delay_max: int
) -> Iterator[Issue]:
    for synapses in population.synapses:
        steps = wait(synapses, population.name, lags)
        own = f" and {synapses.delay} of their own" if synapses.delay else ""
        if steps > delay_max:
            yield Issue(
                synapses.name,
                f"its spikes must wait {steps - synapses.delay} steps for the longer branch{own}, "
                f"a synapse can hold them for {delay_max}",
                "make the shortcut span fewer layers, or the delay shorter",
                "delay-range",
                need=steps,
                limit=delay_max,
            )


def _disconnected(program: Program) -> Iterator[Issue]:
    """Lava runs what hangs together; the image does not tie layers: each has its own source."""
    neighbours: dict[str, set[str]] = {p.name: set() for p in program.populations}
    for population in program.populations:
        for source in {s.source for s in population.synapses} - {INPUT}:
            neighbours[population.name].add(source)
            neighbours[source].add(population.name)
    reached: set[str] = set()
    border = {program.populations[-1].name}
    while border:
        reached |= border
        border = {other for name in border for other in neighbours[name]} - reached
    for name in neighbours:
        if name not in reached:
            yield Issue(
                name, "no synapses tie it to the readout", "remove the layer", "disconnected"
            )


def _threshold(layer: Layer) -> Iterator[Issue]:
    match layer.reset:
        case Reset.SUBTRACT:
            if not 1 <= layer.threshold <= V_MAX:
                yield Issue(
                    layer.name,
                    f"the threshold is {layer.threshold}, a membrane reaches 1 to {V_MAX}",
                    "quantize for loihi",
                    "threshold-range",
                    need=layer.threshold,
                    limit=V_MAX,
                )
        case Reset.ZERO:
            vth, rest = divmod(layer.threshold - 1, 1 << ALIGN)
            if rest:
                yield Issue(
                    layer.name,
                    f"the threshold is {layer.threshold}; Loihi's `v > vth * 64` offers only "
                    "64 * vth + 1 to a neuron that resets to zero",
                    "quantize for loihi, which chooses such thresholds, or train with reset "
                    "'subtract'",
                    "threshold-form",
                )
            if not 0 <= vth <= VTH_MAX:
                yield Issue(
                    layer.name,
                    f"the threshold mantissa is {vth}, the range is 0 to {VTH_MAX}",
                    "quantize for loihi",
                    "threshold-range",
                    need=vth,
                    limit=VTH_MAX,
                )
        case _:
            unreachable(layer.reset)


def _decay(layer: Layer) -> Iterator[Issue]:
    if not 0 <= layer.decay <= DECAY_MAX:
        yield Issue(
            layer.name,
            f"the decay is {layer.decay}, the range is 0 to {DECAY_MAX}",
            "quantize for loihi",
            "decay-range",
            need=layer.decay,
            limit=DECAY_MAX,
        )
    if not layer.current_decay:
        yield Issue(
            layer.name,
            "the current never decays; Loihi's decays by 1/4096 of itself at least, at every step",
            f"use a current decay of 1 to {1 << DECAY_BITS}",
            "current-decay-range",
            need=0,
            limit=1,
        )


def _bias(program: Program, layer: Layer, image: Image) -> Iterator[Issue]:
    reads_image = any(synapses.source == INPUT for synapses in layer.synapses)
    form = image_form(layer, image) if reads_image else None
    if form is Form.BIAS and lasts(layer):
        yield Issue(
            layer.name,
            "the current of the image outlives its step, a bias acts on the membrane alone",
            "choose image=host or image=graded",
            "image-lasts",
        )
    elif form is Form.BIAS and image_exponent(program, layer) is None:
        need = int(image_bounds(program, layer).max())
        yield Issue(
            layer.name,
            f"what the image and the bias add can reach {need}, a bias holds {BIAS_MAX}",
            "quantize for this target with fewer levels, or choose image=graded",
            "image-bias-range",
            need=need,
            limit=BIAS_MAX,
        )
    elif (form is None or lasts(layer)) and bias_exponent(layer.bias) is None:
        yield Issue(
            layer.name,
            f"the biases reach from {layer.bias.min()} to {layer.bias.max()}, a neuron holds "
            f"{BIAS_MIN} to {BIAS_MAX}, or even ones in twice that range",
            "quantize for loihi (it lowers the scale)",
            "bias-format",
            need=int(np.abs(layer.bias).max()),
            limit=BIAS_MAX,
        )


def _readout(program: Program, readout: Accumulator) -> Iterator[Issue]:
    neuron, largest = largest_logit(program, readout)
    if largest > V_MAX:
        yield Issue(
            readout.name,
            f"logit {neuron} can reach {largest} in {program.steps} steps, an accumulator holds "
            f"{V_MAX}",
            "use fewer time steps, or prune the layer",
            "readout-range",
            need=largest,
            limit=V_MAX,
        )
