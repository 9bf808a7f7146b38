"""A population on Loihi 2's cores, by the rules that explain what Intel's compiler printed.

    matrices       split the neurons by ceil(need / limit), until a core holds its part
    convolutions   halve the output channels until a core holds their kernels; then take the
                   largest block of pixels with no more neurons than a core has: as many columns
                   as a power of two, as many rows as the map's, halved any number of times
      ... 2022/23  all channels and rows, and the largest power of two of columns

The second is `Rule.NEWER`, the third `Rule.OLDER`. A kernel is stored once on each core, zeros
included. A convolution of few weights can instead be unrolled to a sparse matrix, which stores
nothing but its synapses, though each at every position: whichever takes fewer cores is chosen.
The rules, like the constants, were found by looking at the same tables that they reproduce.
Splitting by a ratio is not monotone: a layer with one neuron more can take fewer cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from enum import Enum
from math import ceil

from snnc.errors import unreachable
from snnc.ir.program import Convolution, FullyConnected

from snnc_targets.loihi.cores.chip import Chip, Constant, Resource
from snnc_targets.loihi.cores.cut import Core, Cut, Use, exceeded, fits, too_large
from snnc_targets.loihi.cores.tiles import (
    Box,
    Map,
    Wiring,
    alike,
    biggest_first,
    groups,
    stored_fan_out,
    tile_count,
    tiles,
)
from snnc_targets.loihi.cores.words import Encoding, loihi2_axon, loihi2_kernel_row

# the words and axons of a bundle on the core of a box, for boxes that are alike
Known = dict[tuple[Wiring, Encoding, tuple[int, ...]], tuple[int, int]]


class Rule(Enum):
    """Whose rules cut convolutions."""

    NEWER = "newer"  # those of the YOLO-KP tables
    OLDER = "older"  # those of the PilotNet tables


def cut(
    chip: Chip,
    name: str,
    shape: Map,
    wirings: tuple[Wiring, ...],
    *,
    rule: Rule,
    to_matrix: bool,
    stored: tuple[Encoding, ...] | None,
) -> Cut:
    """Return the cut with the fewest cores, or that of the encodings `stored`.

    `to_matrix`: whether a matrix reads the population. Where a single neuron does not fit a
    core, the cut says so among its issues.
    """
    zeros, *others = dict.fromkeys(_choices(wirings))
    kept = _cut(chip, name, shape, wirings, zeros, rule, to_matrix)
    cuts = [kept]
    if stored is not None:
        others = []
        cuts = [
            kept if stored == zeros else _cut(chip, name, shape, wirings, stored, rule, to_matrix)
        ]
    for encodings in others:
        if kept.issues or _at_least(chip, wirings, encodings) < len(kept.cores):
            cuts.append(_cut(chip, name, shape, wirings, encodings, rule, to_matrix))
    best = min(cuts, key=lambda each: (bool(each.issues), len(each.cores), each.words))
    return replace(best, kept_words=kept.words, kept_cores=len(kept.cores))


def _at_least(chip: Chip, wirings: tuple[Wiring, ...], encodings: tuple[Encoding, ...]) -> int:
    """Return a number of cores that the matrices alone would fill: no fewer can do."""
    bits = sum(
        bundle.synapses * (chip.constant(Constant.INDEX_BITS) + bundle.stored_bits)
        for bundle, encoding in zip(wirings, encodings, strict=True)
        if encoding is Encoding.SPARSE
    )
    words = bits // chip.constant(Constant.WORD_BITS)
    return words // chip.limit(Resource.SYNAPSE_WORDS)


def _choices(wirings: tuple[Wiring, ...]) -> Iterator[tuple[Encoding, ...]]:
    """Yield ways to store the bundles: with every zero, without zeros in matrices, with none."""
    yield tuple(_with_zeros(each) for each in wirings)
    yield tuple(_native(each) for each in wirings)
    yield tuple(_native(each) if each.used.all() else Encoding.SPARSE for each in wirings)


def _with_zeros(bundle: Wiring) -> Encoding:
    match bundle.kind:
        case Convolution():
            return Encoding.CONV if bundle.kernel else Encoding.DENSE
        case FullyConnected():
            return Encoding.DENSE
        case _:
            unreachable(bundle.kind)


def _native(bundle: Wiring) -> Encoding:
    kept = _with_zeros(bundle)
    return Encoding.SPARSE if kept is Encoding.DENSE and not bundle.used.all() else kept


def _cut(
    chip: Chip,
    name: str,
    shape: Map,
    wirings: tuple[Wiring, ...],
    encodings: tuple[Encoding, ...],
    rule: Rule,
    to_matrix: bool,
) -> Cut:
    known: Known = {}

    def use(box: Box) -> Use:
        return _use(chip, wirings, encodings, box, to_matrix, known)

    tried: tuple[int, ...] = ()
    if shape[1:] == (1, 1):
        tile, tried = _split(chip, shape, use)
    elif rule is Rule.OLDER:
        tile = _all_channels(chip, shape)
    else:
        tile = _block(chip, shape, use, first=Encoding.CONV in encodings)
    cores = tuple(Core(box=box, use=use(box)) for box in tiles(shape, tile))
    worst = max(cores, key=lambda core: len(exceeded(chip, core.use)))
    return Cut(
        name=name,
        shape=shape,
        tile=tile,
        wirings=wirings,
        encodings=encodings,
        cores=cores,
        kept_words=0,  # until all choices are known
        kept_cores=0,
        tried=tried,
        issues=too_large(chip, name, worst.box, worst.use),
    )


def _split(chip: Chip, shape: Map, use: Callable[[Box], Use]) -> tuple[Map, tuple[int, ...]]:
    """Return the tile of a flat population, and the words that were too many on the way."""
    size = shape[0]
    tried: list[int] = []
    while True:
        uses = [use(box) for box in tiles(shape, (size, 1, 1))]
        parts = max(
            ceil(used / chip.limit(each)) for each_use in uses for each, used in each_use.items()
        )
        if parts <= 1 or size == 1:
            return (size, 1, 1), tuple(tried)
        tried.append(max(each[Resource.SYNAPSE_WORDS] for each in uses))
        size = ceil(size / parts)


def _all_channels(chip: Chip, shape: Map) -> Map:
    """Return the tile with all channels and rows and the largest power of two of columns."""
    columns = 1
    while 2 * columns * shape[0] * shape[1] <= chip.limit(Resource.NEURONS):
        columns *= 2
    return shape[0], shape[1], min(columns, shape[2])


def _block(chip: Chip, shape: Map, use: Callable[[Box], Use], *, first: bool) -> Map:
    """Return the tile of a map that takes the fewest cores, wide ones first.

    `first`: take the largest number of channels for which there is one, as kernels want it.
    """
    best: Map | None = None
    for channels in _halvings(shape[0]):
        blocks = [(channels, y, x) for y in _halvings(shape[1]) for x in _doublings(shape[2])]
        for tile in sorted(blocks, key=lambda each: (tile_count(shape, each), -each[2])):
            if best and tile_count(shape, tile) >= tile_count(shape, best):
                break
            if all(fits(chip, use(box)) for box in biggest_first(tiles(shape, tile))):
                best = tile
                break
        if best and first:
            break
    return best or (1, 1, 1)


def _halvings(size: int) -> Iterator[int]:
    """Yield size, half of it rounded up, and so on down to 1.

    >>> list(_halvings(7))
    [7, 4, 2, 1]
    """
    yield size
    while size > 1:
        size = ceil(size / 2)
        yield size


def _doublings(size: int) -> Iterator[int]:
    """Yield the powers of two below size, then size.

    >>> list(_doublings(7))
    [1, 2, 4, 7]
    """
    power = 1
    while power < size:
        yield power
        power *= 2
    yield size


def _use(
    chip: Chip,
    wirings: Sequence[Wiring],
    encodings: Sequence[Encoding],
    box: Box,
    to_matrix: bool,
    known: Known,
) -> Use:
    """Return what a core uses that holds a box.

    The memory of axons towards convolutions is not known and counts as none; that of axons
    towards matrices is one entry for each neuron.
    """
    words = axons = 0
    for bundle, encoding in zip(wirings, encodings, strict=True):
        place = (bundle, encoding, alike(bundle, box))
        if place not in known:
            known[place] = _memory(chip, bundle, encoding, box)
        words += known[place][0]
        axons += known[place][1]
    axon_map = box.neurons if to_matrix else 0
    return {
        Resource.NEURONS: box.neurons,
        Resource.NEURON_GROUPS: 1,
        Resource.AXONS_IN: axons,
        Resource.SYNAPSE_WORDS: words,
        Resource.AXON_MAP: axon_map,
        Resource.TOTAL_WORDS: box.neurons + 1 + axons + words + axon_map,
    }


def _memory(chip: Chip, bundle: Wiring, encoding: Encoding, box: Box) -> tuple[int, int]:
    """Return the words that a bundle takes on the core of a box, and its axons into it.

    Into kernels leads one axon, for the published tables say 1 or 2.
    """
    delay = chip.constant(Constant.DELAY_BITS) if bundle.delayed else 0
    match encoding, bundle.kind:
        case Encoding.CONV, Convolution() as kind:
            out, width, height, length = bundle.used.shape
            words = sum(
                height
                * length
                * width
                * loihi2_kernel_row(chip, last - first, bundle.signed_bits, kind.stride)
                for _, (first, last) in groups(kind, out, box.channels)
            )
            return words, 1
        case _:
            counts = stored_fan_out(bundle, box, encoding)
            words = int(loihi2_axon(chip, counts, bundle.stored_bits + delay).sum())
            return words, int((counts > 0).sum())
