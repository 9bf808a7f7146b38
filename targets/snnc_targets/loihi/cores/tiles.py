"""Blocks of neurons, and the synapses that reach them.

A population is a map (channels, rows, columns); one that is flat has a single row and column.
A tile is a block of it that shares a core. Everything that a partition must know of a bundle of
synapses is which of its weights are not zero and how many bits they take.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import numpy as np
import numpy.typing as npt
from snnc.errors import unreachable
from snnc.ir.program import Convolution, FullyConnected, Synapses
from snnc.ir.weights import Shape, stored, unpack
from snnc.simulate.trace import Counts

from snnc_targets.loihi.cores.words import Encoding, signed_bits, stored_bits
from snnc_targets.loihi.mantissas import WEIGHT_MAX, largest_weight, mantissas

Map = tuple[int, int, int]  # channels, rows, columns
Span = tuple[int, int]  # first, and one past the last


@dataclass(frozen=True)
class Box:
    """A block of neurons of a map."""

    channels: Span
    rows: Span
    columns: Span

    @property
    def shape(self) -> Map:
        """How many channels, rows and columns it has."""
        (c0, c1), (y0, y1), (x0, x1) = self.channels, self.rows, self.columns
        return c1 - c0, y1 - y0, x1 - x0

    @property
    def neurons(self) -> int:
        """How many neurons it has."""
        return prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """What selects it from an array of the map's shape."""
        return slice(*self.channels), slice(*self.rows), slice(*self.columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class Wiring:
    """A bundle of synapses as memory sees it."""

    name: str
    source: str
    source_map: Map
    target_map: Map
    kind: Convolution | FullyConnected
    used: npt.NDArray[np.bool_]  # which weights are not zero, in the weight's own shape
    running: npt.NDArray[np.int32]  # (out + 1, ...): how many are not zero before each output
    stored_bits: int  # of a weight, in the widths that matrices have, without its exponent
    signed_bits: int  # of a weight, in any width; kernels have no exponent
    delayed: bool  # whether its spikes wait, each synapse holding for how long
    kernel: bool  # whether a convolution can be one: no delays, and 8 bits without an exponent

    @property
    def synapses(self) -> int:
        """The non-zero synapses, those of a convolution counted at every position."""
        whole = Box(*((0, size) for size in self.target_map))
        return int(fan_out(self, whole).sum())


def as_map(shape: Shape) -> Map:
    """Return a shape as channels, rows, columns.

    >>> as_map((10,)), as_map((3, 8, 8))
    ((10, 1, 1), (3, 8, 8))
    """
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return prod(shape), 1, 1


def wiring(synapses: Synapses, source: Shape, target: Shape, *, delayed: bool) -> Wiring:
    """Return what memory must know of a bundle of synapses."""
    used = unpack(synapses.weight) != 0
    running = np.zeros((len(used) + 1, *used.shape[1:]), dtype=np.int32)
    np.cumsum(used, axis=0, out=running[1:])
    return Wiring(
        name=synapses.name,
        source=synapses.source,
        source_map=as_map(source),
        target_map=as_map(target),
        kind=synapses.kind,
        used=used,
        running=running,
        stored_bits=stored_bits(stored(mantissas(synapses))),
        signed_bits=signed_bits(stored(synapses.weight)),
        delayed=delayed,
        kernel=not delayed and largest_weight(synapses) <= WEIGHT_MAX,
    )


def tiles(whole: Map, tile: Map) -> tuple[Box, ...]:
    """Cut a map into boxes of at most the shape of `tile`, channels first, then rows.

    >>> [box.neurons for box in tiles((10, 1, 1), (4, 1, 1))]
    [4, 4, 2]
    """
    spans = [
        [(start, min(start + step, size)) for start in range(0, size, step)]
        for size, step in zip(whole, tile, strict=True)
    ]
    return tuple(Box(*each) for each in product(*spans))


def tile_count(whole: Map, tile: Map) -> int:
    """Return how many tiles cover a map."""
    return prod(ceil(size / step) for size, step in zip(whole, tile, strict=True))


def biggest_first(boxes: tuple[Box, ...]) -> tuple[Box, ...]:
    """Put a box from the middle first: no window is cut there, so it breaks limits first."""
    middle = len(boxes) // 2
    return boxes[middle:] + boxes[:middle]


def fan_out(bundle: Wiring, box: Box) -> Counts:
    """Return how many non-zero synapses lead from each source neuron into a box: (C, H, W)."""
    leaving = np.zeros(bundle.source_map, dtype=np.int64)
    leaving[window(bundle, box).slices] = fan_out_of_window(bundle, box)
    return leaving


def fan_out_of_window(bundle: Wiring, box: Box, *, zeros: bool = False) -> Counts:
    """Return the part of `fan_out` that lies in the `window` of a box; there is none outside.

    With `zeros`, weights that are zero count too.
    """
    match bundle.kind:
        case FullyConnected() if zeros:
            return np.full(bundle.source_map, box.neurons, dtype=np.int64)
        case FullyConnected():
            if bundle.target_map[1:] == (1, 1):
                counts = _between(bundle, box.channels, zeros=False)
            else:
                rows = bundle.used.reshape(*bundle.target_map, -1)[box.slices]
                counts = rows.reshape(box.neurons, -1).sum(axis=0, dtype=np.int64)
            return counts.reshape(bundle.source_map)
        case Convolution() as kind:
            return _spread(bundle, kind, box, zeros)
        case _:
            unreachable(bundle.kind)


def stored_fan_out(bundle: Wiring, box: Box, encoding: Encoding) -> Counts:
    """Return how many synapses each source neuron of a box's `window` stores: DENSE keeps zeros."""
    return fan_out_of_window(bundle, box, zeros=encoding is Encoding.DENSE)


def _between(bundle: Wiring, outputs: Span, *, zeros: bool) -> Counts:
    """Count the weights of some outputs for each input, those that are not zero or all."""
    first, last = outputs
    if zeros:
        return np.full(bundle.used.shape[1:], last - first, dtype=np.int64)
    counts: Counts = (bundle.running[last] - bundle.running[first]).astype(np.int64)
    return counts


def _taps(bundle: Wiring, kind: Convolution, channels: Span, zeros: bool) -> Counts:
    """Count the weights into output channels: (channels of their groups, kh, kw)."""
    out = len(bundle.used)
    each = out // kind.groups
    return np.concatenate(
        [
            _between(bundle, (group * each + first, group * each + last), zeros=zeros)
            for group, (first, last) in groups(kind, out, channels)
        ]
    )


def groups(kind: Convolution, out: int, channels: Span) -> Iterator[tuple[int, Span]]:
    """Yield each group that has some of these output channels, and which of its own they are."""
    each = out // kind.groups
    for group in range(channels[0] // each, -(-channels[1] // each)):
        start = group * each
        yield group, (max(channels[0] - start, 0), min(channels[1] - start, each))


def _spread(bundle: Wiring, kind: Convolution, box: Box, zeros: bool) -> Counts:
    """Add each tap's count to the source pixels that it reads for the positions of a box."""
    counts = _taps(bundle, kind, box.channels, zeros)
    step_y, step_x = kind.stride
    _, rows, columns = box.shape
    read = window(bundle, box)
    reached = np.zeros(
        (
            len(counts),
            (rows - 1) * step_y + counts.shape[1],
            (columns - 1) * step_x + counts.shape[2],
        ),
        dtype=np.int64,
    )
    for ky in range(counts.shape[1]):
        for kx in range(counts.shape[2]):
            positions = reached[
                :,
                ky : ky + (rows - 1) * step_y + 1 : step_y,
                kx : kx + (columns - 1) * step_x + 1 : step_x,
            ]
            positions += counts[:, ky, kx][:, None, None]
    top, left = _cut_off(kind, box, read)
    _, height, width = read.shape
    return reached[:, top : top + height, left : left + width]


def _cut_off(kind: Convolution, box: Box, read: Box) -> tuple[int, int]:
    """Return how many rows and columns that a box would read lie above and left of the map."""
    (step_y, step_x), (pad_y, pad_x) = kind.stride, kind.padding
    top = read.rows[0] - (box.rows[0] * step_y - pad_y)
    return top, read.columns[0] - (box.columns[0] * step_x - pad_x)


def alike(bundle: Wiring, box: Box) -> tuple[int, ...]:
    """Return all that `fan_out_of_window` of a bundle takes from a box.

    A convolution does the same everywhere inside a map, so most of its boxes are alike.
    """
    match bundle.kind:
        case FullyConnected():
            return (*box.channels, *box.rows, *box.columns)
        case Convolution() as kind:
            read = window(bundle, box)
            return (*box.channels, *box.shape[1:], *_cut_off(kind, box, read), *read.shape[1:])
        case _:
            unreachable(bundle.kind)


def window(bundle: Wiring, box: Box) -> Box:
    """Return the part of the source from which synapses may lead into a box."""
    match bundle.kind:
        case FullyConnected():
            return Box(*((0, size) for size in bundle.source_map))
        case Convolution() as kind:
            out, width = bundle.used.shape[:2]
            touched = [group for group, _ in groups(kind, out, box.channels)]
            rows, columns = (
                _window(span, kernel, step, pad, size)
                for span, kernel, step, pad, size in zip(
                    (box.rows, box.columns),
                    bundle.used.shape[2:],
                    kind.stride,
                    kind.padding,
                    bundle.source_map[1:],
                    strict=True,
                )
            )
            return Box((touched[0] * width, (touched[-1] + 1) * width), rows, columns)
        case _:
            unreachable(bundle.kind)


def _window(span: Span, kernel: int, step: int, pad: int, size: int) -> Span:
    first = max(span[0] * step - pad, 0)
    return first, max(min((span[1] - 1) * step - pad + kernel, size), first)
