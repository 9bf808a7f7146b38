"""What a Loihi 2 would refuse, or do otherwise, although Lava simulates it exactly.

No chip was at hand: each rule is what Intel's compiler or its notebooks are known to say, or
what a chip has no means for. Sources: lava-dl's netx (`reset_interval on Loihi-2 Hardware has
to be a power of 2`, image as bias), the compiler's warning on spikes at x = 256 n - 1 of a
convolution, lava issue 501 (a layer of zeros).
"""

from __future__ import annotations

from collections.abc import Iterator

from snnc.errors import Issue
from snnc.ir.graph import Reset
from snnc.ir.program import Accumulator, Layer, Program
from snnc.ir.weights import nonzeros
from snnc.semantics.neuron import CURRENT_MAX, V_MAX

from snnc_targets.loihi.bounds import largest_logit
from snnc_targets.loihi.lowering import Lowering
from snnc_targets.loihi.plan import ON_HOST, Bundle, Form, Placed, plan

MAP_SIDE_MAX = 255


def issues(program: Program, how: Lowering) -> tuple[Issue, ...]:
    """Return what a chip adds to `limits.issues`, which knows how long its synapses can wait."""
    found = list(_steps(program.steps))
    for place in plan(program, how):
        match place.population:
            case Layer():
                found += _neurons(place)
            case Accumulator():
                found += _readout(program, place.population)
        for bundle in place.bundles:
            found += _synapses(program, bundle)
    return tuple(found)


def _steps(steps: int) -> Iterator[Issue]:
    if steps & (steps - 1):
        above = 1 << steps.bit_length()
        yield Issue(
            "program",
            f"runs {steps} steps, the chip resets membranes every 2**n steps only",
            f"use {above // 2} or {above} steps",
            "steps-power-of-two",
            need=steps,
        )


def _neurons(place: Placed) -> Iterator[Issue]:
    layer = place.population
    if isinstance(layer, Layer) and layer.reset is Reset.SUBTRACT:
        yield Issue(
            layer.name,
            "resets by subtraction, the chip's LIF resets to zero",
            "train with reset 'zero'; only Intel's own compiler takes other neurons",
            "soft-reset",
        )


def _readout(program: Program, readout: Accumulator) -> Iterator[Issue]:
    """A neuron that never spikes reads out: its membrane has 24 bits, 6 of them alignment."""
    neuron, largest = largest_logit(program, readout)
    if CURRENT_MAX < largest <= V_MAX:  # beyond V_MAX `limits` says so
        yield Issue(
            readout.name,
            f"logit {neuron} can reach {largest} in {program.steps} steps, a membrane holds "
            f"{CURRENT_MAX}",
            "quantize for loihi2, use fewer time steps, or prune the layer",
            "readout-range",
            need=largest,
            limit=CURRENT_MAX,
        )


def _synapses(program: Program, bundle: Bundle) -> Iterator[Issue]:
    synapses = bundle.synapses
    side = max(program.shape_of(synapses.source)[1:], default=0)
    if bundle.form is Form.CONV and side > MAP_SIDE_MAX:
        yield Issue(
            synapses.name,
            f"reads a map of {side} pixels a side, of which the chip drops spikes",
            "use smaller images, or convolutions=sparse",
            "map-side",
            need=side,
            limit=MAP_SIDE_MAX,
        )
    if bundle.form not in ON_HOST and not nonzeros(synapses.weight):
        yield Issue(
            synapses.name,
            "every weight is zero, which a chip was seen to refuse",
            "prune less, or remove the layer",
            "all-zero",
        )
    if synapses.delay:
        yield Issue(
            synapses.name,
            f"delays spikes by {synapses.delay} steps; what is on its way at the end of a sample "
            "would reach the next one, for a chip does not empty its delay lines",
            "train without delays",
            "delay-across-samples",
            need=synapses.delay,
            limit=0,
        )
