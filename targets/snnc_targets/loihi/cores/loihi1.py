"""A population on Loihi 1's cores: the fewest blocks that fit, as Intel's NxTF searches.

Candidates are tried in the order of their number of cores; of equal ones, those that cut rows
and columns come before those that cut channels. The first whose every core fits is taken. A
source neuron is one axon with a list of its own; the lists are stored in the encoding that takes
the fewest words over the whole layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

import numpy as np
from snnc.ir.program import FullyConnected
from snnc.simulate.trace import Counts

from snnc_targets.loihi.cores.chip import Chip, Constant, Resource
from snnc_targets.loihi.cores.cut import Core, Cut, Use, exceeded, fits, too_large
from snnc_targets.loihi.cores.tiles import (
    Box,
    Map,
    Wiring,
    alike,
    biggest_first,
    fan_out,
    stored_fan_out,
    tile_count,
    tiles,
    window,
)
from snnc_targets.loihi.cores.words import (
    SKIPS,
    Encoding,
    loihi1_dense,
    loihi1_index_bits,
    loihi1_runlength,
    loihi1_sparse,
)


@dataclass(frozen=True, kw_only=True)
class Lists:
    """The lists of synapses that a bundle puts onto a core."""

    axons: int  # lists, none of them empty
    words: int  # of all
    longest: int


Known = dict[tuple[Wiring, tuple[int, ...]], Lists]  # on boxes that are alike


def cut(
    chip: Chip,
    name: str,
    shape: Map,
    wirings: tuple[Wiring, ...],
    *,
    readers: Sequence[Cut],
    soft_reset: bool,
) -> Cut:
    """Return the cut with the fewest cores, stored with and without zeros.

    Where a single neuron does not fit a core, the cut says so among its issues.
    """
    reach = _reach(name, shape, readers)
    zeros = tuple(Encoding.DENSE for _ in wirings)
    kept = _search(chip, name, shape, wirings, zeros, reach, soft_reset)
    encodings = tuple(_cheapest(chip, bundle, kept) for bundle in wirings)
    best = kept
    if encodings != zeros:
        best = _search(chip, name, shape, wirings, encodings, reach, soft_reset)
    return replace(best, kept_words=kept.words, kept_cores=len(kept.cores))


def _search(
    chip: Chip,
    name: str,
    shape: Map,
    wirings: tuple[Wiring, ...],
    encodings: tuple[Encoding, ...],
    reach: Counts,
    soft_reset: bool,
) -> Cut:
    known: Known = {}

    def use(box: Box) -> Use:
        return _use(chip, wirings, encodings, reach, box, soft_reset, known)

    alone = [Core(box=box, use=use(box)) for box in _hardest(shape, wirings, reach)]
    worst = max(alone, key=lambda core: len(exceeded(chip, core.use)))
    if fits(chip, worst.use):
        fewest = _at_least(chip, shape, wirings, encodings, reach, soft_reset)
        boxes = next(
            boxes
            for boxes in _grids(shape, fewest)
            if all(fits(chip, use(box)) for box in biggest_first(boxes))
        )
    else:
        boxes = (worst.box,)
    return Cut(
        name=name,
        shape=shape,
        tile=max((box.shape for box in boxes), key=prod),
        wirings=wirings,
        encodings=encodings,
        cores=tuple(Core(box=box, use=use(box)) for box in boxes),
        kept_words=0,  # until both choices are known
        kept_cores=0,
        tried=(),
        issues=too_large(chip, name, worst.box, worst.use),
    )


def _grids(shape: Map, fewest: int) -> Iterator[tuple[Box, ...]]:
    """Yield ways to cut a map into at least `fewest` boxes, down to single neurons."""
    channels, height, width = shape
    for cores in range(fewest, prod(shape) + 1):
        for split in (n for n in range(1, min(cores, channels) + 1) if cores % n == 0):
            for rows in (n for n in range(1, min(cores // split, height) + 1)):
                columns, rest = divmod(cores // split, rows)
                if rest or columns > width:
                    continue
                tile = (ceil(channels / split), ceil(height / rows), ceil(width / columns))
                if tile_count(shape, tile) == cores:
                    yield tiles(shape, tile)


def _at_least(
    chip: Chip,
    shape: Map,
    wirings: tuple[Wiring, ...],
    encodings: tuple[Encoding, ...],
    reach: Counts,
    soft_reset: bool,
) -> int:
    """Return a number of cores below which neurons, weights or axons cannot fit."""
    whole = Box(*((0, size) for size in shape))
    each = chip.constant(Constant.SOFT_RESET_COMPARTMENTS) if soft_reset else 1
    bits = sum(
        int(stored_fan_out(bundle, whole, encoding).sum()) * bundle.stored_bits
        for bundle, encoding in zip(wirings, encodings, strict=True)
    )
    words = bits // chip.constant(Constant.WORD_BITS)
    return max(
        ceil(prod(shape) * each / chip.limit(Resource.NEURONS)),
        ceil(words / chip.limit(Resource.SYNAPSE_WORDS)),
        ceil(int(reach.sum()) / chip.limit(Resource.AXONS_OUT)),
    )


def _hardest(shape: Map, wirings: tuple[Wiring, ...], reach: Counts) -> Iterator[Box]:
    """Yield single neurons, for each bundle one with the most synapses, and the furthest."""
    _, rows, columns = shape
    for bundle in wirings:
        fan_in = bundle.used.reshape(len(bundle.used), -1).sum(axis=1)
        most = int(fan_in.argmax())
        if isinstance(bundle.kind, FullyConnected):
            yield _one(shape, most)
        else:
            yield _one(shape, (most * rows + rows // 2) * columns + columns // 2)
    yield _one(shape, int(reach.argmax()))


def _one(shape: Map, neuron: int) -> Box:
    """Return the box of one neuron, counted through channels, rows and columns."""
    c, y, x = (int(place) for place in np.unravel_index(neuron, shape))
    return Box((c, c + 1), (y, y + 1), (x, x + 1))


def _reach(name: str, shape: Map, readers: Sequence[Cut]) -> Counts:
    """Return how many cores each neuron's spikes go to, for each bundle that reads them."""
    reached = np.zeros(shape, dtype=np.int64)
    for reader in readers:
        for bundle in reader.wirings:
            if bundle.source != name:
                continue
            for core in reader.cores:
                if isinstance(bundle.kind, FullyConnected):
                    reached += fan_out(bundle, core.box).reshape(shape) > 0
                else:
                    reached[window(bundle, core.box).slices] += 1
    return reached


def _use(
    chip: Chip,
    wirings: Sequence[Wiring],
    encodings: Sequence[Encoding],
    reach: Counts,
    box: Box,
    soft_reset: bool,
    known: Known,
) -> Use:
    """Return what a core uses that holds a box.

    A neuron with soft reset is two compartments and an axon with one synapse to itself.
    """
    compartments = chip.constant(Constant.SOFT_RESET_COMPARTMENTS) if soft_reset else 1
    lists = []
    for bundle, encoding in zip(wirings, encodings, strict=True):
        place = (bundle, alike(bundle, box))
        if place not in known:
            known[place] = _lists(axon_words(chip, bundle, encoding, box, compartments))
        lists.append(known[place])
    own = box.neurons if soft_reset else 0
    return {
        Resource.NEURONS: box.neurons * compartments,
        Resource.AXONS_IN: sum(each.axons for each in lists) + own,
        Resource.AXONS_OUT: int(reach[box.slices].sum()) + own,
        Resource.SYNAPSE_WORDS: sum(each.words for each in lists) + own,
        Resource.WORDS_PER_AXON: max((each.longest for each in lists), default=0),
    }


def _lists(words: Counts) -> Lists:
    return Lists(
        axons=int((words > 0).sum()), words=int(words.sum()), longest=int(words.max(initial=0))
    )


def axon_words(
    chip: Chip, bundle: Wiring, encoding: Encoding, box: Box, compartments: int
) -> Counts:
    """Return the words of the list into a box of each source neuron of its window, flat.

    DENSE stores the zeros of a matrix. The targets of a convolution's source neuron are not
    neighbours, so there it stands for SPARSE with zeros kept.
    """
    delay = chip.constant(Constant.DELAY_BITS) if bundle.delayed else 0
    bits = bundle.stored_bits + delay
    index = loihi1_index_bits(chip, box.neurons * compartments - 1)
    counts = stored_fan_out(bundle, box, encoding).reshape(-1)
    matrix = isinstance(bundle.kind, FullyConnected)
    match encoding:
        case Encoding.DENSE if matrix:
            return np.full(len(counts), loihi1_dense(chip, 0, box.neurons, bits))
        case Encoding.RUNLENGTH if matrix:
            rows = bundle.used.reshape(*bundle.target_map, -1)[box.slices]
            axon, target = np.nonzero(rows.reshape(box.neurons, -1).T)
            runs = [loihi1_runlength(chip, axon, target, len(counts), bits, s) for s in SKIPS]
            return min(runs, key=lambda words: int(words.sum()))
        case _:
            return loihi1_sparse(chip, counts, index, bits)


def _cheapest(chip: Chip, bundle: Wiring, found: Cut) -> Encoding:
    """Return the encoding that takes the fewest words on the cores of a cut."""
    choices = [Encoding.DENSE, Encoding.SPARSE]
    if isinstance(bundle.kind, FullyConnected):
        choices.append(Encoding.RUNLENGTH)
    if bundle.used.all():
        return Encoding.DENSE

    def words(encoding: Encoding) -> int:
        return sum(
            int(axon_words(chip, bundle, encoding, core.box, 1).sum()) for core in found.cores
        )

    return min(choices, key=words)
