"""Why a program cannot run on Loihi's neurons and synapses, every reason at once.

The limits are those of lava-nc 0.10.0's fixed-point models, which keep to Loihi 2's formats
(`lava/proc/lif/models.py`, `lava/proc/dense/models.py`). Several of them are not enforced by
Lava: it wraps, truncates or never spikes, and says nothing. Hence they are checked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from snnc.errors import Issue, unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import INPUT, Accumulator, ImageInput, Layer, Program
from snnc.ir.weights import Dense, IntArray, stored, unpack
from snnc.semantics.neuron import ALIGN, CURRENT_MAX, DECAY_BITS, V_MAX
from snnc.simulate.currents import currents
from snnc.simulate.trace import Counts

from snnc_targets.loihi.plan import lag_of_each

WEIGHT_MAX = 127  # signed 8 bits, without -128: Dense carries 2 w in 9 bits
BIAS_MIN, BIAS_MAX = -4096, 4095  # bias mantissa, signed 13 bits
BIAS_EXP_MAX = 7  # bias exponent, 3 bits; exponent 6 is one unit of current
VTH_MAX = 131071  # threshold mantissa, 17 bits
DECAY_MAX = (1 << DECAY_BITS) - 1
DELAY_MAX = 63  # 6 bits, `PyDelaySparseModelBitAcc`


def issues(program: Program) -> tuple[Issue, ...]:
    """Return every reason the program cannot run; empty when it can."""
    lags = lag_of_each(program)
    found: list[Issue] = []
    for population in program.populations:
        found += _weights(population)
        found += _current(program, population)
        found += _delays(population, lags)
        match population:
            case Layer():
                found += _threshold(population)
                found += _decay(population)
                found += _bias(population)
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


def reads_image(population: Layer | Accumulator) -> bool:
    """Return whether the host computes a part of the current, and sends the bias along."""
    return any(synapses.source == INPUT for synapses in population.synapses)


def current_bounds(program: Program, population: Layer | Accumulator) -> Counts:
    """Return for each neuron (of the population's shape) sum |w| * max |input| + |bias|."""
    per_channel = (-1, *[1] * (len(population.shape) - 1))
    bounds = np.zeros(population.shape, dtype=np.int64)
    bounds += np.abs(population.bias.astype(np.int64)).reshape(per_channel)
    for synapses in population.synapses:
        source = program.shape_of(synapses.source)
        largest = np.ones(source, dtype=np.int32)
        if synapses.source == INPUT:
            largest *= largest_codes(program.input).reshape(-1, *[1] * (len(source) - 1))
        size = replace(synapses, weight=Dense(np.abs(unpack(synapses.weight))))
        bounds += currents(size, source, largest[None]).reshape(population.shape)
    return bounds


def largest_codes(image: ImageInput) -> IntArray:
    """Return the largest |code| that a pixel in [0, 1] can become: (channels,)."""
    return np.maximum(np.abs(image.zero_point), np.abs(image.levels - image.zero_point))


def _weights(population: Layer | Accumulator) -> Iterator[Issue]:
    for synapses in population.synapses:
        largest = int(np.abs(stored(synapses.weight)).max(initial=0))
        if largest > WEIGHT_MAX:
            yield Issue(
                synapses.name,
                f"a weight reaches {largest} in magnitude, the limit is {WEIGHT_MAX}",
                "quantize for loihi: snnc compile --target loihi",
                "weight-range",
            )


def _current(program: Program, population: Layer | Accumulator) -> Iterator[Issue]:
    bounds = current_bounds(program, population)
    neuron = np.unravel_index(int(bounds.argmax()), bounds.shape)
    if bounds[neuron] > CURRENT_MAX:
        yield Issue(
            population.name,
            f"the current of neuron {tuple(int(i) for i in neuron)} can reach {bounds[neuron]}, "
            f"Loihi's 24-bit current holds {CURRENT_MAX}",
            "quantize for loihi (it lowers the scale), or prune the layer",
            "current-range",
        )


def _delays(population: Layer | Accumulator, lags: dict[str, int]) -> Iterator[Issue]:
    for synapses in population.synapses:
        if synapses.source == INPUT:
            continue
        delay = lags[population.name] - 1 - lags[synapses.source]
        if delay > DELAY_MAX:
            yield Issue(
                synapses.name,
                f"its spikes must wait {delay} steps for the longer branch, a synapse can hold "
                f"them for {DELAY_MAX}",
                "make the shortcut span fewer layers",
                "delay-range",
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
        )


def _bias(layer: Layer) -> Iterator[Issue]:
    if not reads_image(layer) and bias_exponent(layer.bias) is None:
        yield Issue(
            layer.name,
            f"the biases reach from {layer.bias.min()} to {layer.bias.max()}, a neuron holds "
            f"{BIAS_MIN} to {BIAS_MAX}, or even ones in twice that range",
            "quantize for loihi (it lowers the scale)",
            "bias-format",
        )


def _readout(program: Program, readout: Accumulator) -> Iterator[Issue]:
    largest = int(current_bounds(program, readout).max()) * program.steps
    if largest > V_MAX:
        yield Issue(
            readout.name,
            f"a logit can reach {largest} in {program.steps} steps, an accumulator holds {V_MAX}",
            "use fewer time steps, or prune the layer",
            "readout-range",
        )
