"""How many words of synaptic memory the synapses of one axon take, in each encoding.

    chip     encoding    bits of an axon with n synapses of b bits                   evidence
    Loihi 1  DENSE       sum over entries of at most 60:  10 + idx(first) + n_e b    fact
             SPARSE      ... 10 + n_e (b + idx)                                      fact
             RUNLENGTH   ... 10 + idx(first) + n_e (b + skip), gaps below 2**skip    fact
    Loihi 2  DENSE       n (12 + b) + 4, zeros stored                                inferred
             SPARSE      n (12 + b) + 4, n non-zero                                  guess
             CONV        n b + 20, and 1 for stride 2: one row of a kernel           inferred

idx(v) = max(6, bits of v). Loihi 1 starts the next axon in a new word, and its encoder needs
one word more where the last one is full or has fewer than 6 bits left. The forms of Loihi 1 are
those of NxTF's encoder; those of Loihi 2 explain the tables that Intel's compiler printed, see
`chips/loihi2.toml`. There the index of 12 bits is paid in dense layers too, so SPARSE is never
larger than DENSE.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from snnc.ir.weights import IntArray
from snnc.simulate.trace import Counts

from snnc_targets.loihi.cores.chip import Chip, Constant

WIDTHS = (1, 2, 3, 4, 5, 6, 8)  # bits of a stored weight, on both chips: 7 takes the room of 8
SKIPS = (2, 3, 4, 5)  # bits of a gap in RUNLENGTH
Number = TypeVar("Number", int, Counts)


class Encoding(Enum):
    """How the synapses of an axon lie in memory."""

    DENSE = "dense"
    SPARSE = "sparse"
    RUNLENGTH = "runlength"
    CONV = "conv"


def signed_bits(weights: IntArray) -> int:
    """Return the width of the narrowest two's complement that holds all weights, at least 1.

    >>> signed_bits(np.array([-4, 3])), signed_bits(np.array([4])), signed_bits(np.array([0]))
    (3, 4, 1)
    """
    if not weights.size:
        return 1
    return 1 + max(int(weights.max()), -int(weights.min()) - 1, 0).bit_length()


def stored_bits(weights: IntArray) -> int:
    """Return the width in which weights of mixed sign are stored, as if there were no wider ones.

    A weight q of ours is 2 q on the chip, whose format for mixed signs has no lowest bit, so q
    itself is what takes room.

    >>> stored_bits(np.array([-64, 63])), stored_bits(np.array([-4, 3]))
    (8, 3)
    """
    bits = signed_bits(weights)
    return next((width for width in WIDTHS if width >= bits), bits)


def ceil_div(amount: Number, size: int) -> Number:
    """Return amount / size, rounded up."""
    return -(-amount // size)


def loihi2_axon(chip: Chip, synapses: Number, bits: int) -> Number:
    """Return the words of an axon with so many stored synapses; 0 for an axon without any."""
    each = chip.constant(Constant.INDEX_BITS) + bits
    words = ceil_div(
        synapses * each + chip.constant(Constant.AXON_BITS), chip.constant(Constant.WORD_BITS)
    )
    return words * (synapses > 0)


def loihi2_kernel_row(chip: Chip, channels: int, bits: int, stride: tuple[int, int]) -> int:
    """Return the words of the weights from one tap and input channel to output channels."""
    wide = chip.constant(Constant.STRIDE_BITS) if stride == (2, 2) else 0
    size = channels * bits + chip.constant(Constant.KERNEL_BITS) + wide
    return ceil_div(size, chip.constant(Constant.WORD_BITS))


def loihi1_index_bits(chip: Chip, largest: int) -> int:
    """Return the bits of an index that reaches `largest`.

    >>> from snnc_targets.loihi.cores.chip import load
    >>> [loihi1_index_bits(load("loihi1"), v) for v in (0, 63, 64, 240)]
    [6, 6, 7, 8]
    """
    return max(chip.constant(Constant.INDEX_BITS_MIN), largest.bit_length())


def loihi1_dense(chip: Chip, first: int, synapses: int, bits: int) -> int:
    """Return the words of an axon into `synapses` neighbours, the first at index `first`."""
    size = 0
    for start in range(0, synapses, chip.constant(Constant.SYNAPSES_PER_ENTRY)):
        inside = min(chip.constant(Constant.SYNAPSES_PER_ENTRY), synapses - start)
        index = loihi1_index_bits(chip, first + start)
        size += chip.constant(Constant.ENTRY_BITS) + index + inside * bits
    return int(_loihi1_words(chip, np.array([size]))[0])


def loihi1_sparse(chip: Chip, synapses: Counts, index_bits: int, bits: int) -> Counts:
    """Return the words of axons with so many stored synapses each; 0 for those without any."""
    entries = ceil_div(synapses, chip.constant(Constant.SYNAPSES_PER_ENTRY))
    size = entries * chip.constant(Constant.ENTRY_BITS) + synapses * (bits + index_bits)
    return _loihi1_words(chip, size)


def loihi1_runlength(
    chip: Chip, axon: Counts, target: Counts, axons: int, bits: int, skip: int
) -> Counts:
    """Return the words of each of `axons` axons, gaps between targets stored in `skip` bits.

    Synapse i goes from axon[i] to target[i], sorted by axon, then by target. More than 2**skip
    from one target to the next, or a full entry, starts a new entry.
    """
    new_run = np.ones(len(axon), dtype=np.bool_)
    new_run[1:] = (np.diff(axon) != 0) | (np.diff(target) > 1 << skip)
    place = np.arange(len(axon))
    in_run = place - np.maximum.accumulate(np.where(new_run, place, 0))
    first = in_run % chip.constant(Constant.SYNAPSES_PER_ENTRY) == 0
    index = np.array(
        [loihi1_index_bits(chip, int(t)) for t in range(int(target.max(initial=0)) + 1)]
    )
    head = chip.constant(Constant.ENTRY_BITS) + index[target[first]]
    size = np.bincount(axon, minlength=axons) * (bits + skip)
    np.add.at(size, axon[first], head)
    return _loihi1_words(chip, size)


def _loihi1_words(chip: Chip, size: npt.NDArray[np.int64]) -> Counts:
    """Return the words that so many bits take in NxTF's encoder; 0 bits take none."""
    word = chip.constant(Constant.WORD_BITS)
    words, last = np.divmod(size, word)
    found: Counts = (words + 1 + (last >= word - 5)) * (size > 0)
    return found
