"""What arrives at one population, laid out once, so that many candidates can weigh it.

Unfolding a map costs as much as a product with it. A search multiplies the same map with
the integers of many scales, so the columns are made once for each part of the samples.

Sums are exact: a float32 holds every integer up to 2**24, a float64 up to 2**53, and the
caller chooses by a bound of the sum of all magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.errors import unreachable
from snnc.ir.geometry import convolved
from snnc.ir.program import Convolution, FullyConnected, Synapses
from snnc.ir.weights import FloatArray, IntArray, Shape
from snnc.simulate.trace import Counts, Spikes

Emitted = Spikes | IntArray | Counts  # (samples, time, *shape); time is 1 for the image
Currents = npt.NDArray[np.floating]  # (samples, time, positions, channels), whole numbers
FloatType = type[np.float32] | type[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """The input of one bundle of synapses: what each output position reads, group by group."""

    values: npt.NDArray[np.floating]  # (groups, samples * time * positions, reads)
    outer: Shape  # (samples, time)
    target: Shape

    def mean(self) -> FloatArray:
        """Return the mean of each column: (groups, reads)."""
        return np.asarray(self.values.mean(axis=1, dtype=np.float64))

    def times(self, weight: IntArray) -> Currents:
        """Return the currents of a weight, (out, in / groups, ...)."""
        matrices = arranged(weight, len(self.values)).astype(self.values.dtype)
        products = np.matmul(self.values, matrices)  # (groups, positions, out of the group)
        positions = prod(self.target[1:])
        last: Currents = products.transpose(1, 0, 2).reshape((*self.outer, positions, -1))
        return last


def arranged(weight: IntArray, groups: int) -> IntArray:
    """Return a weight as matrices (groups, reads, out / groups), reads in the order of columns."""
    last = np.moveaxis(weight, 1, -1)  # the channels of one tap beside each other
    rows = last.reshape(groups, len(weight) // groups, -1)
    matrices: IntArray = rows.transpose(0, 2, 1)
    return matrices


def columns(bundle: Synapses, target: Shape, emitted: Emitted, dtype: FloatType) -> Columns:
    """Unfold what a source emitted (samples, time, *source) for a bundle that reads it."""
    outer = emitted.shape[:2]
    match bundle.kind:
        case FullyConnected():
            values = _floats(emitted.reshape(1, prod(outer), -1), dtype)
        case Convolution() as kind:
            flat = emitted.reshape(-1, *emitted.shape[2:])
            values = _unfolded(flat, bundle.weight.shape, kind, dtype)
        case _:
            unreachable(bundle.kind)
    return Columns(values=values, outer=outer, target=target)


def _unfolded(
    x: Emitted, weight: Shape, kind: Convolution, dtype: FloatType
) -> npt.NDArray[np.floating]:
    """Return the columns (groups, batch * H * W, kh * kw * inputs) of maps (batch, C, H, W)."""
    (pad_y, pad_x), (step_y, step_x) = kind.padding, kind.stride
    _, rows, across = convolved(x.shape[1:], weight, kind.stride, kind.padding)
    inputs, height, width = weight[1:]
    last = np.pad(
        _floats(x.transpose(0, 2, 3, 1), dtype), ((0, 0), (pad_y, pad_y), (pad_x, pad_x), (0, 0))
    )
    result = np.empty((kind.groups, len(x), rows, across, height, width, inputs), dtype=dtype)
    for g in range(kind.groups):
        for y in range(height):
            for z in range(width):
                result[g, :, :, :, y, z] = last[
                    :,
                    y : y + (rows - 1) * step_y + 1 : step_y,
                    z : z + (across - 1) * step_x + 1 : step_x,
                    g * inputs : (g + 1) * inputs,
                ]
    return result.reshape(kind.groups, -1, height * width * inputs)


def _floats(values: Emitted, dtype: FloatType) -> npt.NDArray[np.floating]:
    return values.astype(dtype)
