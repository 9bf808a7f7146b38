"""Trying integers on one population: its spikes, and how far they are from the float ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.errors import unreachable
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Synapses,
)
from snnc.ir.weights import FloatArray, Shape, unpack
from snnc.quantization.arrivals import Columns, Currents, Emitted, FloatType, arranged, columns
from snnc.quantization.dynamics import counts, spikes
from snnc.quantization.wanted import CHUNK, Wanted
from snnc.semantics.neuron import CURRENT_MAX
from snnc.simulate.trace import Spikes

FLOAT32 = 1 << 24  # integers up to here are exact in float32

Means = Sequence[FloatArray]  # of the columns of each bundle, (groups, reads)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A population with what arrives at it, ready to be run at any scale.

    `emitted` is what integers upstream emit, so a population that is fitted to it makes up
    for their errors. `reach` bounds the |currents| that every candidate adds up: of one step,
    for an accumulator of all steps.
    """

    name: str
    wanted: Wanted
    emitted: Mapping[str, Emitted]
    steps: int
    reach: int

    def first(self, samples: int) -> Trial:
        """Return the same trial on the first samples only."""
        few = replace(
            self.wanted,
            counts={name: each[:samples] for name, each in self.wanted.counts.items()},
            logits=self.wanted.logits[:samples],
        )
        emitted = {name: each[:samples] for name, each in self.emitted.items()}
        return replace(self, wanted=few, emitted=emitted)

    def errors(self, candidates: Sequence[Layer | Accumulator]) -> list[float]:
        """Return the error of each candidate; neighbours of one scale share a product.

        A layer's is the rate error, mean |spikes - float spikes| / steps of a neuron. An
        accumulator's is mean |logit / scale - float logit| over the standard deviation of the
        float logits.
        """
        totals = [0.0] * len(candidates)
        for part, found in self._parts(candidates[0]):
            scale = 0.0
            currents: Currents = np.zeros(0)
            for i, candidate in enumerate(candidates):
                if candidate.scale != scale:
                    scale, currents = candidate.scale, self._currents(candidate, found)
                totals[i] += self._error(candidate, currents, part)
        return [total / len(self.wanted.logits) for total in totals]

    def spikes(self, layer: Layer) -> Spikes:
        """Return the spikes (samples, steps, *shape) of a layer."""
        rasters = []
        for _, found in self._parts(layer):
            steps = [*spikes(layer, self._currents(layer, found), self.steps)]
            raster = np.stack(steps, axis=1)  # (samples, steps, positions, channels)
            rasters.append(np.moveaxis(raster, -1, 2).reshape((*raster.shape[:2], *layer.shape)))
        return np.concatenate(rasters)

    def means(self, like: Layer | Accumulator) -> Means:
        """Return the mean, over samples, steps and positions, of all that `like` reads."""
        total: list[FloatArray] = [np.zeros(1) for _ in like.synapses]
        for part, found in self._parts(like):
            share = (part.stop - part.start) / len(self.wanted.logits)
            total = [
                sums + share * self._per_step(like, bundle, each.mean())
                for sums, bundle, each in zip(total, like.synapses, found, strict=True)
            ]
        return total

    def _per_step(
        self, like: Layer | Accumulator, bundle: Synapses, mean: FloatArray
    ) -> FloatArray:
        summed = isinstance(like, Accumulator) and bundle.source != INPUT
        return mean / self.steps if summed else mean

    def _parts(self, like: Layer | Accumulator) -> Iterator[tuple[slice, list[Columns]]]:
        """Yield the columns of all bundles for a part of the samples after the other."""
        samples = len(self.wanted.logits)
        exact = self.reach < FLOAT32 if isinstance(like, Accumulator) else self.reach <= CURRENT_MAX
        dtype: FloatType = np.float32 if exact else np.float64
        emitted = {bundle.source: self._arriving(like, bundle.source) for bundle in like.synapses}
        largest = max(
            emitted[bundle.source].shape[1] * _reads(like.shape, bundle) for bundle in like.synapses
        )
        size = max(1, CHUNK // (largest * np.dtype(dtype).itemsize))
        for first in range(0, samples, size):
            part = slice(first, min(first + size, samples))
            yield (
                part,
                [
                    columns(bundle, like.shape, emitted[bundle.source][part], dtype)
                    for bundle in like.synapses
                ],
            )

    def _arriving(self, like: Layer | Accumulator, source: str) -> Emitted:
        """Return what a source emits; for an accumulator, which is linear, summed over time."""
        emitted = self.emitted[source]
        if isinstance(like, Layer) or source == INPUT:
            return emitted
        return np.asarray(emitted.sum(axis=1, keepdims=True, dtype=np.int64))

    def _currents(self, candidate: Layer | Accumulator, found: Sequence[Columns]) -> Currents:
        """Return what arrives, without bias; at an accumulator, of all steps."""
        total: Currents | None = None
        for bundle, each in zip(candidate.synapses, found, strict=True):
            current = each.times(unpack(bundle.weight))
            if isinstance(candidate, Accumulator) and bundle.source == INPUT:
                current = current * self.steps
            total = current if total is None else total + current
        assert total is not None  # noqa: S101 - every population has synapses
        return total

    def _error(self, candidate: Layer | Accumulator, currents: Currents, part: slice) -> float:
        """Return the error of each sample, summed."""
        if isinstance(candidate, Layer):
            found = counts(candidate, currents, self.steps)
            wanted = _channels_last(self.wanted.counts[self.name][part])
            return float(np.abs(found - wanted).sum()) / (self.steps * candidate.size)
        whole = currents[:, 0].astype(np.float64) + float(self.steps) * candidate.bias
        logits = whole / (candidate.scale * self.steps)
        wanted_logits = self.wanted.logits[part].reshape(len(logits), candidate.shape[0], -1)
        difference = np.abs(logits - wanted_logits.transpose(0, 2, 1))
        return float(difference.mean(axis=(1, 2)).sum()) / spread(self.wanted.logits)


def mean_currents(population: Layer | Accumulator, means: Means) -> FloatArray:
    """Return the mean current of each channel at one step, in integers, without the bias."""
    total = np.zeros(population.shape[0])
    for bundle, mean in zip(population.synapses, means, strict=True):
        matrices = arranged(unpack(bundle.weight), len(mean))
        total += np.einsum("gr,gro->go", mean, matrices).reshape(-1)
    return total


def spread(logits: FloatArray) -> float:
    """Return the standard deviation of logits (samples, classes) about their class means."""
    return max(float((logits - logits.mean(axis=0)).std()), float(np.finfo(float).tiny))


def _channels_last(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return (samples, channels, ...) as (samples, positions, channels)."""
    last: npt.NDArray[np.int32] = values.reshape((*values.shape[:2], -1)).transpose(0, 2, 1)
    return last


def _reads(target: Shape, bundle: Synapses) -> int:
    """Return how many values one sample's columns hold at one step."""
    reads = prod(bundle.weight.shape[1:])
    match bundle.kind:
        case FullyConnected():
            return reads
        case Convolution(groups=groups):
            return prod(target[1:]) * reads * groups
        case _:
            unreachable(bundle.kind)
