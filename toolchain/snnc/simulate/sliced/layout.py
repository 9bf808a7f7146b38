"""Where a bundle of synapses finds what it reads.

The emitted bits of a source are copied into a map with the padding around it, one for each
phase of the stride, so that the sources of neighbouring outputs are neighbours: a tap of the
kernel is a distance in bytes, and inner loops have no conditions. A matrix is a convolution
of a map of one pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.errors import unreachable
from snnc.ir.program import Convolution, FullyConnected, Synapses
from snnc.ir.weights import Csr, Dense, IntArray, IntWeight, Shape

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The padded maps that one bundle reads."""

    source: tuple[int, int, int]  # (channels, height, width)
    stride: tuple[int, int]
    padding: tuple[int, int]
    padded: tuple[int, int]  # rows and columns of one phase

    @property
    def pixels(self) -> int:
        """The number of pixels of all maps and phases."""
        return self.source[0] * prod(self.stride) * prod(self.padded)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """The weights that are not zero of one bundle, row by row, and where each reads."""

    geometry: Geometry
    indptr: Offsets  # (outputs + 1,)
    weight: IntArray  # (stored,)
    taps: IntArray  # (stored,): pixels of the geometry from an output's first source pixel


def geometry(bundle: Synapses, source: Shape) -> Geometry:
    """Return the maps of a bundle that reads a map or a vector of shape `source`."""
    match bundle.kind:
        case FullyConnected():
            return Geometry(
                source=(prod(source), 1, 1), stride=(1, 1), padding=(0, 0), padded=(1, 1)
            )
        case Convolution(stride=stride, padding=padding):
            channels, *size = source
            rows, columns = (
                -(-(length + 2 * pad) // step)
                for length, pad, step in zip(size, padding, stride, strict=True)
            )
            return Geometry(
                source=(channels, size[0], size[1]),
                stride=stride,
                padding=padding,
                padded=(rows, columns),
            )
        case _:
            unreachable(bundle.kind)


def layout(bundle: Synapses, source: Shape) -> Layout:
    """Return the layout of a bundle that reads a map or a vector of shape `source`."""
    maps = geometry(bundle, source)
    indptr, weight, taps = _taps(bundle.weight, _columns(bundle, maps))
    if isinstance(bundle.kind, Convolution) and bundle.kind.groups > 1:
        per_group = (len(indptr) - 1) // bundle.kind.groups
        group = np.arange(len(indptr) - 1) // per_group * (maps.pixels // bundle.kind.groups)
        taps += np.repeat(group, np.diff(indptr)).astype(np.int32)
    return Layout(geometry=maps, indptr=indptr, weight=weight, taps=taps)


def _columns(bundle: Synapses, maps: Geometry) -> IntArray:
    """Return the tap of each column of a weight."""
    if isinstance(bundle.kind, FullyConnected):
        return np.arange(bundle.weight.shape[1], dtype=np.int32)
    (step_y, step_x), (rows, columns) = maps.stride, maps.padded
    channel, y, x = np.indices(bundle.weight.shape[1:], dtype=np.int32)
    phase = (channel * step_y + y % step_y) * step_x + x % step_x
    taps: IntArray = ((phase * rows + y // step_y) * columns + x // step_x).reshape(-1)
    return taps


def _taps(weight: IntWeight, columns: IntArray) -> tuple[Offsets, IntArray, IntArray]:
    """Return (indptr, weights, taps) without the zeros; weights are a view where none is."""
    match weight:
        case Dense(values=values):
            rows = values.reshape(len(values), -1)
            indptr = np.zeros(len(rows) + 1, dtype=np.int64)
            np.cumsum(np.count_nonzero(rows, axis=1), out=indptr[1:])
            taps = np.empty(int(indptr[-1]), dtype=np.int32)
            for i, row in enumerate(rows):
                taps[indptr[i] : indptr[i + 1]] = columns[row != 0]
            data = rows.reshape(-1) if len(taps) == rows.size else rows[rows != 0]
            return indptr, data, taps
        case Csr(data=data, indices=indices):
            keep = data != 0
            if keep.all():
                return weight.indptr, data, columns[indices]
            indptr = np.concatenate([[0], np.cumsum(keep)])[weight.indptr]
            return indptr, data[keep], columns[indices[keep]]
        case _:
            unreachable(weight)


def reach(layouts: Sequence[Layout], outputs: int) -> tuple[Offsets, Offsets]:
    """Return the largest and the least sum of weights of each output, (outputs,)."""
    most, least = np.zeros(outputs, dtype=np.int64), np.zeros(outputs, dtype=np.int64)
    for each in layouts:
        some = np.diff(each.indptr) > 0
        if some.any():  # a row ends where the next one that is not empty starts
            starts = each.indptr[:-1][some]
            for sums, of_sign in ((most, np.maximum), (least, np.minimum)):
                sums[some] += np.add.reduceat(of_sign(each.weight, 0), starts, dtype=np.int64)
    return most, least
