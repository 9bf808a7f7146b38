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
from snnc.ir.weights import Csr, Dense, IntWeight, Shape, row_of_each, sparse, unpack

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
    """The taps of one bundle, in pixels of its geometry."""

    geometry: Geometry
    weight: Csr[np.int32]  # no zero stored
    taps: Offsets  # (stored,): pixels from an output's first source pixel


def layout(bundle: Synapses, source: Shape) -> Layout:
    """Return the layout of a bundle that reads a map or a vector of shape `source`."""
    weight = _nonzero(bundle.weight)
    match bundle.kind:
        case FullyConnected():
            geometry = Geometry(
                source=(prod(source), 1, 1), stride=(1, 1), padding=(0, 0), padded=(1, 1)
            )
            return Layout(geometry=geometry, weight=weight, taps=weight.indices.astype(np.int64))
        case Convolution() as kind:
            return _convolution(weight, kind, source)
        case _:
            unreachable(bundle.kind)


def _nonzero(weight: IntWeight) -> Csr[np.int32]:
    """Return a weight without its zeros."""
    match weight:
        case Dense(values=values):
            return sparse(values)
        case Csr(data=data):
            return weight if data.all() else sparse(unpack(weight))
        case _:
            unreachable(weight)


def _convolution(weight: Csr[np.int32], kind: Convolution, source: Shape) -> Layout:
    channels, height, width = source
    (step_y, step_x), (pad_y, pad_x) = kind.stride, kind.padding
    rows, columns = -(-(height + 2 * pad_y) // step_y), -(-(width + 2 * pad_x) // step_x)
    out, inputs, tall, wide = weight.shape
    channel, y, x = np.indices((inputs, tall, wide))
    phase = (channel * step_y + y % step_y) * step_x + x % step_x
    of_column = ((phase * rows + y // step_y) * columns + x // step_x).reshape(-1)
    taps = of_column[weight.indices]
    if kind.groups > 1:
        group = row_of_each(weight) // (out // kind.groups)
        taps += group * (inputs * step_y * step_x * rows * columns)
    geometry = Geometry(
        source=(channels, height, width),
        stride=kind.stride,
        padding=kind.padding,
        padded=(rows, columns),
    )
    return Layout(geometry=geometry, weight=weight, taps=taps)


def reach(layouts: Sequence[Layout], outputs: int) -> tuple[Offsets, Offsets]:
    """Return the largest and the least sum of weights of each output, (outputs,)."""
    most, least = np.zeros(outputs, dtype=np.int64), np.zeros(outputs, dtype=np.int64)
    for each in layouts:
        values = np.concatenate([each.weight.data, [0]]).astype(np.int64)  # for empty rows
        starts, some = each.weight.indptr[:-1], np.diff(each.weight.indptr) > 0
        most += some * np.add.reduceat(np.maximum(values, 0), starts)
        least += some * np.add.reduceat(np.minimum(values, 0), starts)
    return most, least
