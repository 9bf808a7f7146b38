"""The fast simulator: numba kernels over non-zero weights, the same bits as `snnc.semantics`.

Samples are processed in chunks that bound memory, layer by layer over all steps. Currents
are summed in the narrowest integers that a bound of the layer allows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from types import ModuleType

import numpy as np
import numpy.typing as npt

from snnc.errors import MissingDependency, unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import Csr, IntArray, Shape, sparse, stored, unpack
from snnc.semantics.neuron import ALIGN, DECAY_BITS, V_MAX
from snnc.simulate.activity import fan_out
from snnc.simulate.trace import Counts, LayerTrace, SynapseTrace, Trace, concatenate

Emitted = npt.NDArray[np.int8] | IntArray  # (*shape, steps, samples); steps is 1 for the image
LANES = 256  # steps times samples of a chunk: a row of currents stays in the first-level cache
PARTS = 16  # partial sums of events, so that several threads can add


def run(program: Program, codes: IntArray, *, raster: bool) -> Trace:
    """Run a program on encoded images (samples, *shape); keep the spikes if `raster`.

    Raises:
        MissingDependency: numba is not installed.
    """
    try:
        from snnc.simulate import kernels
    except ImportError as error:
        raise MissingDependency(
            "the fast simulator needs numba; install it with: pip install 'snnc[fast]', or use "
            "the numpy simulator (--engine numpy)"
        ) from error
    wiring = {
        (population.name, bundle.name): _wire(bundle, program.shape_of(bundle.source))
        for population in program.populations
        for bundle in population.synapses
    }
    chunk = max(1, LANES // program.steps)
    starts = range(0, max(len(codes), 1), chunk)
    with ThreadPoolExecutor(_processors()) as threads:
        work = _Work(kernels=kernels, threads=threads)
        return concatenate(
            [_run(work, program, wiring, codes[i : i + chunk], raster) for i in starts]
        )


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """The kernels and the threads that share them."""

    kernels: ModuleType
    threads: ThreadPoolExecutor

    def share(self, kernel: Callable[..., None], jobs: int, *arguments: object) -> None:
        """Do jobs 0 to `jobs` of a kernel, a part in each thread."""
        parts = min(_processors(), jobs)
        ends = [jobs * part // parts for part in range(parts + 1)] if jobs else [0]
        started = [
            self.threads.submit(kernel, first, last, *arguments)
            for first, last in zip(ends, ends[1:], strict=False)
        ]
        for each in started:
            each.result()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Wiring:
    """A bundle as the kernels read it; a matrix is a convolution of a 1 x 1 map."""

    weight: Csr[np.int32]
    taps: IntArray  # (stored, 3)
    source: Shape  # (channels, height, width)
    stride: tuple[int, int]
    padding: tuple[int, int]
    fan_out: Counts  # (neurons of the source,)
    reach: int  # the largest sum of |weight| of an output


def _wire(bundle: Synapses, source: Shape) -> _Wiring:
    weight = bundle.weight if isinstance(bundle.weight, Csr) else sparse(bundle.weight.values)
    magnitude = np.abs(unpack(weight).astype(np.int64)).reshape(weight.shape[0], -1)
    reach = int(magnitude.sum(axis=1).max(initial=0))
    leaving = fan_out(bundle, source).reshape(-1)
    match bundle.kind:
        case FullyConnected():
            taps = np.zeros((len(weight.data), 3), dtype=np.int32)
            taps[:, 0] = weight.indices
            return _Wiring(
                weight=weight,
                taps=taps,
                source=(prod(source), 1, 1),
                stride=(1, 1),
                padding=(0, 0),
                fan_out=leaving,
                reach=reach,
            )
        case Convolution(stride=stride, padding=padding, groups=groups):
            out, inputs, height, width = weight.shape
            row = np.repeat(np.arange(out), np.diff(weight.indptr))
            channel, y, x = np.unravel_index(weight.indices, (inputs, height, width))
            first = row // (out // groups) * inputs
            return _Wiring(
                weight=weight,
                taps=np.stack([first + channel, y, x], axis=1).astype(np.int32),
                source=source,
                stride=stride,
                padding=padding,
                fan_out=leaving,
                reach=reach,
            )
        case _:
            unreachable(bundle.kind)


def _run(
    work: _Work,
    program: Program,
    wiring: dict[tuple[str, str], _Wiring],
    codes: IntArray,
    raster: bool,
) -> Trace:
    samples, steps = len(codes), program.steps
    emitted: dict[str, Emitted] = {INPUT: np.ascontiguousarray(np.moveaxis(codes, 0, -1))}
    emitted[INPUT] = emitted[INPUT].reshape(*program.input.shape, 1, samples)
    layers: list[LayerTrace] = []
    synapses: list[SynapseTrace] = []
    logits = np.zeros((samples, program.classes), dtype=np.int64)
    for population in program.populations:
        currents, constant = _drive(work, population, wiring, emitted, steps)
        for bundle in population.synapses:
            events = _events(work, wiring[population.name, bundle.name], emitted[bundle.source])
            synapses.append(
                SynapseTrace(
                    name=bundle.name,
                    population=population.name,
                    source=bundle.source,
                    events=np.broadcast_to(events.T, (samples, steps)).copy(),
                )
            )
        if isinstance(population, Accumulator):
            total = currents.sum(axis=1, dtype=np.int64) + steps * constant
            logits[:] = total.T
            continue
        spikes = np.empty((population.size, steps, samples), dtype=np.int8)
        work.share(
            work.kernels.fire,
            len(spikes),
            spikes,
            currents,
            constant,
            (1 << DECAY_BITS) - population.decay,
            population.threshold,
            population.reset is Reset.SUBTRACT,
            (ALIGN, DECAY_BITS, V_MAX),
        )
        updated = _updated(work, population, wiring, emitted, steps)
        emitted[population.name] = spikes.reshape(*population.shape, steps, samples)
        kept = np.moveaxis(emitted[population.name], (-1, -2), (0, 1)) != 0 if raster else None
        layers.append(
            LayerTrace(
                name=population.name,
                neurons=population.size,
                spikes=spikes.sum(axis=0, dtype=np.int64).T,
                updated=updated,
                raster=kept,
            )
        )
    if not isinstance(program.readout, Accumulator):
        last = emitted[program.layers[-1].name]
        logits[:] = last.sum(axis=-2, dtype=np.int64).reshape(-1, samples).T
    return Trace(
        predictions=logits.argmax(axis=1),
        logits=logits,
        layers=tuple(layers),
        synapses=tuple(synapses),
        steps=steps,
    )


def _drive(
    work: _Work,
    population: Layer | Accumulator,
    wiring: dict[tuple[str, str], _Wiring],
    emitted: dict[str, Emitted],
    steps: int,
) -> tuple[npt.NDArray[np.signedinteger], Counts]:
    """Return the currents of spikes (neurons, steps, samples), and bias + image (neurons, n)."""
    samples = emitted[INPUT].shape[-1]
    per_channel = population.size // population.shape[0]
    bias = np.repeat(population.bias.astype(np.int64), per_channel)
    constant = np.repeat(bias[:, None], samples, axis=1)
    spiking = [bundle for bundle in population.synapses if bundle.source != INPUT]
    bound = sum(wiring[population.name, bundle.name].reach for bundle in spiking)
    currents = np.zeros((population.size, steps, samples), dtype=np.min_scalar_type(-bound - 1))
    for bundle in population.synapses:
        wire = wiring[population.name, bundle.name]
        if bundle.source == INPUT:
            image = np.zeros((population.size, 1, samples), dtype=np.int64)
            _add(work, wire, emitted[INPUT], image, population.shape)
            constant += image[:, 0]
        else:
            _add(work, wire, emitted[bundle.source], currents, population.shape)
    return currents, constant


def _add(
    work: _Work,
    wire: _Wiring,
    source: Emitted,
    currents: npt.NDArray[np.signedinteger],
    shape: Shape,
) -> None:
    """Add the currents of one bundle into (neurons, steps, samples)."""
    target = currents.reshape(*(shape if len(shape) == 3 else (*shape, 1, 1)), -1)
    work.share(
        work.kernels.convolve,
        target.shape[0] * target.shape[1],
        target,
        source.reshape(*wire.source, -1),
        wire.weight.data.astype(currents.dtype),
        wire.taps,
        wire.weight.indptr,
        wire.stride,
        wire.padding,
    )


def _events(work: _Work, wire: _Wiring, source: Emitted) -> Counts:
    """Return the events (steps, samples) of what a source emitted."""
    lanes = source.shape[-2] * source.shape[-1]
    parts = np.zeros((PARTS, lanes), dtype=np.int64)
    work.share(work.kernels.weigh, PARTS, wire.fan_out, source.reshape(-1, lanes), parts)
    events: Counts = parts.sum(axis=0)
    return events.reshape(source.shape[-2:])


def _updated(
    work: _Work,
    layer: Layer,
    wiring: dict[tuple[str, str], _Wiring],
    emitted: dict[str, Emitted],
    steps: int,
) -> Counts:
    """Return how many neurons (samples, steps) got an event or have a bias."""
    samples = emitted[INPUT].shape[-1]
    if (layer.bias != 0).all():
        return np.full((samples, steps), layer.size, dtype=np.int64)
    hits = np.zeros((layer.size, steps, samples), dtype=np.int32)
    for bundle in layer.synapses:
        wire = wiring[layer.name, bundle.name]
        ones = (stored(wire.weight) != 0).astype(np.int32)
        pattern = replace(wire, weight=replace(wire.weight, data=ones))
        active = (emitted[bundle.source] != 0).astype(np.int8)
        reached = np.zeros((layer.size, active.shape[-2], samples), dtype=np.int32)
        _add(work, pattern, active, reached, layer.shape)
        hits += reached
    biased = np.repeat(layer.bias != 0, layer.size // layer.shape[0])
    touched = (hits > 0) | biased[:, None, None]
    return np.asarray(touched.sum(axis=0, dtype=np.int64).T)
