"""How the fast simulator runs each layer: decided once from the program, for all samples.

    Sliced     no leak, no image: bit-sliced from the weights to the spikes
    Integral   any other neuron: sums are bit-sliced, membranes are integers
    Plain      sums beyond 31 bits, two bundles from the image, sources beyond 2 GiB:
               the numpy simulator

All of them are exact; the bounds that choose are static, except that a hard reset may run
sliced where a membrane could saturate in theory: should one come near, its row is run again
as integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import ModuleType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from snnc.errors import unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import FORGET, INPUT, Convolution, Layer, Program, Synapses
from snnc.ir.weights import Csr, Dense, IntArray, IntWeight, integers, stored
from snnc.semantics.neuron import ALIGN, CURRENT_MAX, V_MAX
from snnc.simulate.sliced.layout import Geometry, Layout, geometry, layout, reach

VECTOR, ROOM = 64, 256  # bytes: alignment, and how far a row may be read past its end
MOST_TAPS = 1 << 20  # of a part of a layer, roughly
SEGMENT = 1024  # taps whose carries stay in the caches
GUARD = 17  # a sliced membrane below -2**17 units of current is about to saturate
MOST_LEVELS = 28  # of a sliced membrane
MOST_BITS = 31  # of a sum that becomes an integer
MOST_BYTES = 2**31 - 1  # of sources: schedules hold 32 bits
MOST_PIXELS = 2**16  # of sources that 16 bits of a schedule can tell apart

BLOCK, FEW, KINDS = 8, 4, 3  # as in `kernels.sums`, which is not imported without numba
Share = Callable[..., None]  # does jobs of a kernel in threads

Scalar = TypeVar("Scalar", bound=np.generic)
Schedule = tuple[npt.NDArray[np.integer] | int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Where the source of one bundle lies in the memory that a layer reads, in bytes."""

    source: str
    delay: int
    geometry: Geometry
    start: int  # a multiple of a pixel, as is the next
    half: int  # to the complement
    jump: int  # from a row of outputs to the next


@dataclass(frozen=True, kw_only=True, eq=False)
class Wiring:
    """What reaches a layer: its bundles in memory and the order of the additions."""

    places: tuple[Place, ...]  # of the sources that spike
    image: Layout | None
    memory: int  # bytes
    schedule: Schedule
    levels: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Sliced:
    """Neurons that stay bit-sliced."""

    layer: Layer
    wiring: Wiring
    lowered: npt.NDArray[np.int64]  # (levels,): all bits or none, those of -threshold
    guard: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Integral:
    """Neurons whose membranes are integers of the type of `bias`."""

    layer: Layer
    wiring: Wiring
    bias: npt.NDArray[np.signedinteger]  # (channels,): what the planes do not hold


@dataclass(frozen=True, kw_only=True, eq=False)
class Plain:
    """Neurons that the numpy simulator runs."""

    layer: Layer


Plan = Sliced | Integral | Plain


def parts(layer: Layer) -> list[Layer]:
    """Return a layer as layers of some of its channels, in order, that have few taps each.

    The plan of a part needs little memory. A layer of groups stays whole.
    """
    taps = sum(stored(bundle.weight).size for bundle in layer.synapses)
    kinds = [bundle.kind for bundle in layer.synapses]
    grouped = any(isinstance(kind, Convolution) and kind.groups > 1 for kind in kinds)
    number = 1 if grouped else min(-(-taps // MOST_TAPS), layer.shape[0])
    if number < 2:
        return [layer]
    ends = [layer.shape[0] * part // number for part in range(number + 1)]
    return [
        replace(
            layer,
            shape=(last - first, *layer.shape[1:]),
            bias=layer.bias[first:last],
            synapses=tuple(
                replace(bundle, weight=_rows(bundle.weight, first, last))
                for bundle in layer.synapses
            ),
        )
        for first, last in pairwise(ends)
    ]


def _rows(weight: IntWeight, first: int, last: int) -> IntWeight:
    """Return a view of some rows of a weight."""
    match weight:
        case Dense(values=values):
            return Dense(values[first:last])
        case Csr(data=data, indices=indices, indptr=indptr):
            here = slice(int(indptr[first]), int(indptr[last]))
            return Csr(
                shape=(last - first, *weight.shape[1:]),
                data=data[here],
                indices=indices[here],
                indptr=indptr[first : last + 1] - indptr[first],
            )
        case _:
            unreachable(weight)


def plan(program: Program, layer: Layer, pixel: int, share: Share, schedules: ModuleType) -> Plan:
    """Choose how to run a layer whose pixels have `pixel` bytes."""
    spiking = [bundle for bundle in layer.synapses if bundle.source != INPUT]
    image = [bundle for bundle in layer.synapses if bundle.source == INPUT]
    if len(image) > 1 or memory(program, layer, pixel) > MOST_BYTES:
        return Plain(layer=layer)
    layouts = [layout(bundle, program.shape_of(bundle.source)) for bundle in spiking]
    seen = layout(image[0], program.input.shape) if image else None
    most, least = reach(layouts, layer.shape[0])
    bias = layer.bias.astype(np.int64)
    up = max(0, int((most + bias).max()))
    down = max(0, -int((least + bias).min()))
    if not image and (levels := _sliced_levels(layer, program.steps, up, down)):
        wiring = _wire(spiking, layouts, None, bias, levels, pixel, share, schedules)
        return Sliced(
            layer=layer,
            wiring=wiring,
            lowered=_bits(-_level(layer.threshold), levels),
            guard=GUARD if program.steps * down > CURRENT_MAX else levels - 1,
        )
    if layer.current_decay < FORGET or not spiking:  # the bias is no part of the current
        up, down = int(most.max(initial=0)), -int(least.min(initial=0))
        inside, outside = np.zeros_like(bias), bias
    else:
        inside, outside = bias, np.zeros_like(bias)
    levels = (max(up, down).bit_length() + 1) if spiking else 0
    if levels > MOST_BITS:
        return Plain(layer=layer)
    wiring = _wire(spiking, layouts, seen, inside, levels, pixel, share, schedules)
    total = max(up, down) + _image_reach(program, seen, layer.shape[0])
    lasting = program.steps if layer.current_decay < FORGET else 1
    largest = (total * lasting + int(np.abs(outside).max())) * 2**ALIGN + V_MAX
    narrow = largest < 2**31 - 1
    return Integral(
        layer=layer, wiring=wiring, bias=outside.astype(np.int32 if narrow else np.int64)
    )


def memory(program: Program, layer: Layer, pixel: int) -> int:
    """Return how many bytes the sources of a layer take that spike."""
    spiking = [bundle for bundle in layer.synapses if bundle.source != INPUT]
    maps = [geometry(bundle, program.shape_of(bundle.source)) for bundle in spiking]
    return sum(2 * _half(each, pixel) for each in maps) + ROOM  # the last vector reaches past


def _half(maps: Geometry, pixel: int) -> int:
    """Return the bytes from a source to its complement: whole pixels, whole vectors."""
    return -(-maps.pixels // VECTOR) * VECTOR * pixel


def _level(threshold: int) -> int:
    """Return the threshold in units of current: a membrane without a leak is a multiple."""
    return -(-threshold >> ALIGN)


def _sliced_levels(layer: Layer, steps: int, up: int, down: int) -> int:
    """Return how many planes hold v - threshold, or 0 where the neuron cannot be sliced."""
    if layer.decay or layer.current_decay < FORGET or layer.threshold > V_MAX:
        return 0
    threshold = _level(layer.threshold)
    if layer.reset is Reset.SUBTRACT:
        if layer.threshold % 2**ALIGN or steps * max(up, down) >= CURRENT_MAX:
            return 0
        furthest = max(steps * down + threshold, steps * up)
    else:
        lowest = steps * down if steps * down <= CURRENT_MAX else 2**GUARD + down
        furthest = max(lowest + threshold, up)
    levels = (furthest + 1).bit_length() + 1
    return levels if levels <= MOST_LEVELS else 0


def _image_reach(program: Program, image: Layout | None, outputs: int) -> int:
    """Return a bound on the current that an image causes."""
    if image is None:
        return 0
    most, least = reach([image], outputs)
    return int((most - least).max(initial=0)) * program.input.peak


def _bits(value: int, levels: int) -> npt.NDArray[np.int64]:
    """Return all bits or none for each bit of a number in two's complement."""
    return np.array([-((value >> level) & 1) for level in range(levels)], dtype=np.int64)


def _wire(
    bundles: Sequence[Synapses],
    layouts: Sequence[Layout],
    image: Layout | None,
    constant: npt.NDArray[np.int64],  # (outputs,): added to every sum
    levels: int,
    pixel: int,
    share: Share,
    schedules: ModuleType,
) -> Wiring:
    places, end = [], 0
    for bundle, each in zip(bundles, layouts, strict=True):
        half = _half(each.geometry, pixel)
        places.append(
            Place(
                source=bundle.source,
                delay=bundle.delay,
                geometry=each.geometry,
                start=end,
                half=half,
                jump=each.geometry.padded[1] * pixel,
            )
        )
        end += 2 * half
    return Wiring(
        places=tuple(places),
        image=image,
        memory=end + ROOM,
        schedule=_schedule(places, layouts, constant, levels, pixel, share, schedules),
        levels=levels,
    )


def _schedule(
    places: Sequence[Place],
    layouts: Sequence[Layout],
    constant: npt.NDArray[np.int64],
    levels: int,
    pixel: int,
    share: Share,
    schedules: ModuleType,
) -> Schedule:
    """Return the lists of all rows, see `kernels.schedule`; empty where nothing spikes."""
    outputs = len(constant)
    table = _segments(layouts, outputs)
    weight = _joined([each.weight for each in layouts])
    taps = _joined([each.taps for each in layouts])
    modulo = constant.copy()
    for each in layouts:
        modulo -= schedules.negative_digits(_still(each.indptr), _still(each.weight))
    modulo &= (1 << levels) - 1
    row, source = table[:, 0], table[:, 3]
    later = np.zeros(len(table), dtype=np.bool_)
    later[1:] = row[1:] == row[:-1]
    first_constant = np.where(later, 0, modulo[row])
    at = np.array([(p.start // pixel, p.half, p.jump) for p in places] or [(0, 0, 0)])[source]
    ends_of_taps = np.ascontiguousarray(table[:, 1:3])
    counts = np.zeros((len(table), levels, KINDS), dtype=np.int32)
    digits = np.zeros((len(table), 2 * levels + 1), dtype=np.int64)
    sizes = np.zeros((len(table), 4), dtype=np.int64)
    given = (ends_of_taps, first_constant, later, weight, digits, counts)
    share(schedules.count, len(table), *given, sizes)
    many = int(sizes[:, 3].max(initial=0))
    sizes[:, 1] += (FEW * (levels - many)) - BLOCK * counts[:, many:, 2].sum(axis=1)
    ends = np.cumsum(sizes[:, :2], axis=0)
    first = ends - sizes[:, :2]
    last = max((p.start // pixel + p.geometry.pixels for p in places), default=0)
    narrow = np.uint16 if last <= MOST_PIXELS else np.int32
    sources = np.empty(int(ends[-1, 0]), dtype=narrow)
    mixed = np.empty(int(ends[-1, 1]), dtype=np.int32)
    share(schedules.write, len(table), *given, many, taps, at, pixel, first, sources, mixed)
    segments = np.searchsorted(row, np.arange(outputs + 1))
    slots = int(sizes[:, 2].max(initial=0))
    jump = np.ascontiguousarray(at[:, 2])
    return segments, first, jump, counts, sources, mixed, many, slots, pixel


def _segments(layouts: Sequence[Layout], outputs: int) -> npt.NDArray[np.int64]:
    """Return (row, first tap, past the last, bundle) of each segment; a row has one or more."""
    found, base = [], 0
    for number, each in enumerate(layouts):
        for o in range(outputs):
            first, last = int(each.indptr[o]), int(each.indptr[o + 1])
            parts = max(1, -(-(last - first) // SEGMENT))
            ends = [base + first + (last - first) * part // parts for part in range(parts + 1)]
            found += [(o, *pair, number) for pair in pairwise(ends)]
        base += len(each.weight)
    if not layouts:
        found = [(o, 0, 0, 0) for o in range(outputs)]
    return np.array(sorted(found, key=lambda each: (each[0], each[3], each[1])), dtype=np.int64)


def _joined(parts: Sequence[IntArray]) -> IntArray:
    """Return all parts one after the other, a view of a single one."""
    return _still(parts[0] if len(parts) == 1 else np.concatenate([integers([]), *parts]))


def _still(values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """Return a read-only view: kernels are compiled for those alone."""
    view: npt.NDArray[Scalar] = values.view()
    view.setflags(write=False)
    return view


def neurons(layer: Layer) -> tuple[int, int, int]:
    """Return the map (channels, rows, columns) that a layer's neurons form."""
    channels, rows, columns = layer.shape if len(layer.shape) == 3 else (*layer.shape, 1, 1)
    return channels, rows, columns
