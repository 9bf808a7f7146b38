"""Spike counts of many candidates of one layer, quickly: `semantics.neuron` in floats, exact.

Membranes are kept in units of current, where a membrane unit is 1/64. Whole currents then
need no scaling, and every value is a multiple of 1/64 below 2**18: a float32 holds it. A leak
multiplies by up to 2**12 before it rounds, and has float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from snnc.errors import unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import Layer
from snnc.quantization.arrivals import Currents
from snnc.semantics.neuron import ALIGN, DECAY_BITS, V_MAX
from snnc.simulate.trace import Spikes

UNIT = 1 << ALIGN


def spikes(layer: Layer, currents: Currents, steps: int) -> Iterator[Spikes]:
    """Yield, step by step, which neurons (samples, positions, channels) fire.

    `currents` are without bias; time is `steps`, or 1 where they are the same at every step.
    The layer has no lasting current.
    """
    dtype = currents.dtype if layer.decay == 0 else np.dtype(np.float64)
    bias = layer.bias.astype(dtype)
    threshold, most = dtype.type(layer.threshold / UNIT), dtype.type(V_MAX / UNIT)
    highest = max(-float(currents.min(initial=0.0)), float(currents.max(initial=0.0)))
    within = steps * (highest + float(np.abs(bias).max(initial=0.0))) < most
    v = np.zeros((len(currents), *currents.shape[2:]), dtype=dtype)
    for t in range(steps):
        if layer.decay:
            v = _leaked(v, layer.decay)
        v += currents[:, min(t, currents.shape[1] - 1)]
        v += bias
        if not within:
            np.clip(v, -most, most, out=v)
        fired = v >= threshold
        match layer.reset:
            case Reset.ZERO:
                v *= ~fired
            case Reset.SUBTRACT:
                v -= threshold * fired
            case _:
                unreachable(layer.reset)
        yield fired


def counts(layer: Layer, currents: Currents, steps: int) -> npt.NDArray[np.int32]:
    """Return how often each neuron (samples, positions, channels) fires."""
    total = np.zeros((len(currents), *currents.shape[2:]), dtype=np.int32)
    for fired in spikes(layer, currents, steps):
        total += fired
    return total


def _leaked(v: npt.NDArray[np.floating], decay: int) -> npt.NDArray[np.floating]:
    """Return v (4096 - decay) / 4096, rounded toward zero to a membrane unit."""
    kept = (1 << DECAY_BITS) - decay
    leaked: npt.NDArray[np.floating] = np.trunc(v * UNIT * kept / (1 << DECAY_BITS)) / UNIT
    return leaked
