"""The numpy simulator: whole layers at once, the same bits as `snnc.semantics`.

Layers are run in turn over all steps: without recurrence that equals running them in
lockstep, and the synapses of a layer become one matrix product for all samples and steps.
"""

from __future__ import annotations

import numpy as np

from snnc.errors import unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import INPUT, Layer, Program
from snnc.ir.weights import IntArray
from snnc.semantics.encode import check_codes
from snnc.semantics.neuron import ALIGN, DECAY_BITS, V_MAX
from snnc.simulate.activity import delayed, trace_from_rasters
from snnc.simulate.currents import currents
from snnc.simulate.trace import Counts, Spikes, Trace


def run(program: Program, codes: IntArray, *, raster: bool) -> Trace:
    """Run a program on encoded images (samples, *shape); keep the spikes if `raster`.

    Raises:
        InvalidSetting: a code is none that an image becomes.
    """
    check_codes(program.input, codes)
    rasters: dict[str, Spikes] = {}
    for layer in program.layers:
        rasters[layer.name] = fire(layer, drive(program, layer, codes, rasters))
    return trace_from_rasters(program, codes, rasters, keep_rasters=raster)


def drive(program: Program, layer: Layer, codes: IntArray, rasters: dict[str, Spikes]) -> Counts:
    """Return the current that arrives at a layer without its bias, (samples, steps, *shape)."""
    drive = np.zeros((len(codes), program.steps, *layer.shape), dtype=np.int64)
    for bundle in layer.synapses:
        source = program.shape_of(bundle.source)
        if bundle.source == INPUT:
            drive += currents(bundle, source, codes).reshape(len(codes), 1, *layer.shape)
        else:
            arriving = delayed(rasters[bundle.source], bundle.delay).reshape(-1, *source)
            drive += currents(bundle, source, arriving).reshape(drive.shape)
    return drive


def fire(layer: Layer, drive: Counts) -> Spikes:
    """Return the spikes of neurons at which `drive` arrives, both (samples, steps, *shape)."""
    bias = layer.bias.reshape(-1, *[1] * (len(layer.shape) - 1)).astype(np.int64) << ALIGN
    u = np.zeros((len(drive), *layer.shape), dtype=np.int64)
    v = np.zeros_like(u)
    spikes = np.empty(drive.shape, dtype=np.bool_)
    for t in range(drive.shape[1]):
        u = leak(u, layer.current_decay) + (drive[:, t] << ALIGN)
        v = np.clip(leak(v, layer.decay) + u + bias, -V_MAX, V_MAX)
        spikes[:, t] = fired = v >= layer.threshold
        match layer.reset:
            case Reset.ZERO:
                v[fired] = 0
            case Reset.SUBTRACT:
                v[fired] -= layer.threshold
            case _:
                unreachable(layer.reset)
    return spikes


def leak(v: Counts, decay: int) -> Counts:
    """Return v * (4096 - decay) / 4096 of every neuron, rounded toward zero."""
    if not decay:
        return v
    return np.asarray(np.sign(v) * (np.abs(v) * (2**DECAY_BITS - decay) >> DECAY_BITS))
