"""Events and updates, counted from the bits that sources emitted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from snnc.ir.program import INPUT, Accumulator, Layer, Program
from snnc.simulate.activity import fan_out
from snnc.simulate.sliced.emitted import Emitted, blank
from snnc.simulate.sliced.layout import layout
from snnc.simulate.sliced.work import Work
from snnc.simulate.trace import Counts, SynapseTrace

FanOuts = Mapping[tuple[str, str], Counts]

PARTS = 16  # partial sums, so that several threads can add
LANES = 128  # that the kernel adds at once


def fan_outs(program: Program) -> FanOuts:
    """Return how many synapses leave each neuron of the source of each bundle, flat."""
    return {
        (population.name, bundle.name): fan_out(bundle, program.shape_of(bundle.source)).reshape(-1)
        for population in program.populations
        for bundle in population.synapses
    }


def events(
    work: Work,
    program: Program,
    population: Layer | Accumulator,
    emitted: Mapping[str, Emitted],
    leaving: FanOuts,
    samples: int,
) -> list[SynapseTrace]:
    """Return what arrived at each bundle of a population."""
    found = []
    for bundle in population.synapses:
        sent = per_lane(work, emitted[bundle.source], leaving[population.name, bundle.name])
        sent = sent.reshape(program.steps, -1)[:, :samples]
        arrived = np.zeros((samples, program.steps), dtype=np.int64)
        heard = max(program.steps - bundle.delay, 0)
        arrived[:, program.steps - heard :] = sent[:heard].T
        found.append(
            SynapseTrace(
                name=bundle.name,
                population=population.name,
                source=bundle.source,
                events=arrived,
            )
        )
    return found


def per_lane(work: Work, emitted: Emitted, weights: Counts) -> Counts:
    """Return the sums (steps * samples,) of the weights of the neurons that emit."""
    lanes = emitted.pixel * 8
    sums = np.zeros((PARTS, -(-lanes // LANES) * LANES), dtype=np.int64)
    limit = (2**31 - 1) // max(1, int(weights.max(initial=0)))
    work.share(
        work.kernels.weighed,
        PARTS,
        emitted.space,
        weights.astype(np.int32),
        emitted.pixel,
        limit,
        sums,
    )
    total: Counts = sums.sum(axis=0)
    return total[:lanes]


def updated(
    work: Work, program: Program, layer: Layer, emitted: Mapping[str, Emitted], samples: int
) -> Counts:
    """Return how many neurons (samples, steps) got an event or have a bias."""
    per_channel = layer.size // layer.shape[0]
    quiet = np.flatnonzero(layer.bias == 0)
    always = (layer.shape[0] - len(quiet)) * per_channel
    counts = np.full((samples, program.steps), always, dtype=np.int64)
    if not len(quiet):
        return counts
    size = emitted[layer.name].pixel // program.steps
    reached = blank((len(quiet), *layer.shape[1:]), emitted[layer.name].pixel)
    for bundle in layer.synapses:
        source, wired = emitted[bundle.source], layout(bundle, program.shape_of(bundle.source))
        at = wired.geometry
        half = at.pixels * source.pixel
        memory: npt.NDArray[np.uint8] = np.zeros(2 * half + LANES, dtype=np.uint8)
        delay = 0 if bundle.source == INPUT else bundle.delay
        work.share(
            work.kernels.lay_out,
            at.source[0],
            source.bits.reshape(*at.source, source.pixel),
            memory,
            (0, half, min(delay * size, source.pixel)),
            at.stride,
            at.padding,
            at.padded,
        )
        work.share(
            work.kernels.touched,
            reached.bits.shape[0] * reached.bits.shape[1],
            quiet,
            reached.bits,
            memory,
            np.array(wired.indptr, dtype=np.int64),
            wired.taps * np.int32(source.pixel),
            at.padded[1] * source.pixel,
        )
    ones = np.ones(len(quiet) * per_channel, dtype=np.int64)
    hits = per_lane(work, reached, ones).reshape(program.steps, -1)[:, :samples]
    counts += hits.T
    return counts
