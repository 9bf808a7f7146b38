"""Write schedules: the order in which the digits of a row's weights are added, plane by plane.

A digit is a power of two with a sign, in the form with no two neighbours (non-adjacent: of
about 8/3 digits for 8 bits). A negative digit reads the complement of its source, which adds
2**b - s 2**b instead of -s 2**b; the constant takes the difference back.

Plane b has the digits of weight 2**b, the carries from three planes below, a bit of the
constant and, after the first segment of a row, plane b of the segment before. Eight of them
make a block, which hands one carry three planes up. Blocks of sources come first; then at
least one of inputs of any kind, filled up with zeros. High planes have so few inputs that
one block of four does: the kernel has no branch there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from snnc.simulate.kernels.cache import kernel
from snnc.simulate.kernels.sums import BLOCK, FEW
from snnc.simulate.kernels.vectors import WIDE

Numbers = npt.NDArray[np.signedinteger]
NONE, ALL, KEPT = 0, 1, 2  # slots of the scratch: zeros, ones, the planes of the last segment
RISE = 3  # planes that the carry of a block goes up


@kernel
def _digits(weight: Numbers) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the positive and the negative digits, as bits: those in which w and 3 w differ."""
    positive = np.empty(len(weight), dtype=np.int64)
    negative = np.empty(len(weight), dtype=np.int64)
    for k in range(len(weight)):
        w = np.int64(weight[k])
        positive[k] = (3 * w & ~w) >> 1
        negative[k] = (w & ~(3 * w)) >> 1
    return positive, negative


@kernel
def negative_digits(indptr: Numbers, weight: Numbers) -> npt.NDArray[np.int64]:
    """Return for each row the sum of the powers of two that it subtracts."""
    sums = np.zeros(len(indptr) - 1, dtype=np.int64)
    for row in range(len(sums)):
        for k in range(indptr[row], indptr[row + 1]):
            w = np.int64(weight[k])
            sums[row] += (w & ~(3 * w)) >> 1
    return sums


@kernel
def count(
    first: int,  # a job is one segment
    last: int,
    segments: Numbers,  # (segments, 2): first tap, past the last
    constant: Numbers,  # (segments,)
    later: npt.NDArray[np.bool_],  # (segments,): not the first of its row
    weight: Numbers,  # (taps,)
    digits: Numbers,  # (segments, 2 * levels + 1), written: 0, then those of each plane and sign
    counts: Numbers,  # (segments, levels, KINDS), written
    sizes: Numbers,  # (segments, 4), written: sources, mixed inputs, slots, planes of many
) -> None:
    """Count the blocks of each segment."""
    levels = counts.shape[1]
    for i in range(first, last):
        signs = _digits(weight[segments[i, 0] : segments[i, 1]])
        for sign in range(2):
            for level in range(_top(signs[sign], levels)):
                number = 0
                for bits in signs[sign]:
                    number += (bits >> level) & 1
                digits[i, 1 + 2 * level + sign] = number
        carries = np.zeros(levels + RISE, dtype=np.int64)
        sizes[i, 0], sizes[i, 1], sizes[i, 2], sizes[i, 3] = 0, 0, KEPT + levels, 0
        for level in range(levels):
            more = carries[level] + ((constant[i] >> level) & 1) + later[i]
            blocks = 0
            for sign in range(2):
                number = digits[i, 1 + 2 * level + sign]
                counts[i, level, sign] = number // BLOCK
                blocks += number // BLOCK
                more += number % BLOCK
            sizes[i, 0] += BLOCK * blocks
            if blocks or more > FEW:
                sizes[i, 3] = level + 1
            counts[i, level, 2] = max(1, -(-more // BLOCK))
            blocks += counts[i, level, 2]
            carries[level + RISE] += blocks
            sizes[i, 1] += BLOCK * counts[i, level, 2]
            sizes[i, 2] += blocks


@kernel
def _top(digits: Numbers, levels: int) -> int:
    """Return how many planes have digits."""
    every = np.int64(0)
    for bits in digits:
        every |= bits
    top = 0
    while top < levels and every >> top:
        top += 1
    return top


@kernel
def write(
    first: int,  # a job is one segment
    last: int,
    segments: Numbers,  # as in `count`
    constant: Numbers,
    later: npt.NDArray[np.bool_],
    weight: Numbers,
    digits: Numbers,
    counts: Numbers,
    many: int,  # planes from this one on have one block of FEW
    taps: Numbers,  # (taps,): pixels from the first one of the source
    places: Numbers,  # (segments, 3): first pixel of the source, bytes to its complement, any
    pixel: int,  # bytes
    lists: Numbers,  # (segments, 2): where the lists of a segment start
    sources: Numbers,  # written: pixels of sources, by blocks
    mixed: Numbers,  # written: bytes of sources, or minus those of slots from the scratch's end
) -> None:
    """Write the lists of each segment."""
    levels = counts.shape[1]
    for i in range(first, last):
        starts = np.cumsum(digits[i])
        found = _by_level(segments[i, 0], segments[i, 1], weight, taps, places[i, 0], starts)
        at, other, slot = lists[i, 0], lists[i, 1], KEPT + levels
        arrived = np.zeros((levels + RISE, 2), dtype=np.int64)  # first slot, how many
        for level in range(levels):
            end = other + (BLOCK * counts[i, level, 2] if level < many else FEW)
            for sign in range(2):
                n = starts[2 * level + sign]
                for _ in range(BLOCK * counts[i, level, sign]):
                    sources[at] = found[n]
                    at, n = at + 1, n + 1
                while n < starts[2 * level + sign + 1]:
                    mixed[other] = found[n] * pixel + sign * places[i, 1]
                    other, n = other + 1, n + 1
            for j in range(arrived[level, 1]):
                mixed[other] = -(arrived[level, 0] + j + 1) * WIDE
                other += 1
            if (constant[i] >> level) & 1:
                mixed[other] = -(ALL + 1) * WIDE
                other += 1
            if later[i]:
                mixed[other] = -(KEPT + level + 1) * WIDE
                other += 1
            while other < end:
                mixed[other] = -(NONE + 1) * WIDE
                other += 1
            blocks = counts[i, level].sum()
            arrived[level + RISE] = slot, blocks
            slot += blocks


@kernel
def _by_level(
    first: int, last: int, weight: Numbers, taps: Numbers, origin: int, starts: Numbers
) -> npt.NDArray[np.int64]:
    """Return the pixels of the digits, plane by plane, the positive ones first."""
    found = np.empty(starts[-1] + 1, dtype=np.int64)
    positive, negative = _digits(weight[first:last])
    values = taps[first:last]
    for level in range(len(starts) // 2):
        for sign in range(2):
            n = np.uint64(starts[2 * level + sign])
            if n == np.uint64(starts[2 * level + sign + 1]):
                continue
            digits = negative if sign else positive
            for k in range(len(digits)):  # no branch: few could be foreseen
                found[n] = origin + values[k]
                n += np.uint64((digits[k] >> level) & 1)
    return found
