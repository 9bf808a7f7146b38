"""What lava-dl's netx and Lava's synapses make of the weights in a netx file.

Lava-dl 0.6.0 on lava-nc 0.10.0. A dense layer's weights pass through two functions; what a
spike then delivers is not always the weight in the file:

1. `netx.utils.optimize_weight_bits` clips weights of both signs to [-256, 254], shifts the
   matrix left by as many bits as 8 leave room for, and says how many bits it needs.
2. `lava.utils.weightutils` (`clip_weights`, `truncate_weights`) clips to [-256, 255], or to a
   magnitude of 255 where all weights have one sign, and clears the bits that were not asked for.
   It finds out anew whether there is one sign, and counts a matrix with no positive weight as
   inhibitory where step 1 counts it as mixed if it holds a zero.
3. The sum over the spikes is shifted back.

Mixed and excitatory matrices come through unharmed. An inhibitory one whose smallest weight is
minus a power of two does not: -256 has no magnitude in 8 bits.

A convolution uses its weights as they are (`proc/conv/models.py`).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from snnc.ir.rules import Broken
from snnc.ir.weights import IntArray, integers

SMALLEST, LARGEST = -256, 254  # what step 1 leaves of weights of both signs
BYTE = 127  # lava-nc keeps the geometry of a convolution in signed bytes


def delivered(weight: npt.NDArray[np.int64]) -> IntArray:
    """Return the weights (out, in) that a dense layer of lava-dl delivers.

    Raises:
        Broken: lava-dl cannot load them, or what it delivers is no whole number.

    >>> delivered(np.array([[3, -128]])).tolist()
    [[3, -128]]
    >>> delivered(np.array([[-3, -128]])).tolist()
    [[-3, -127]]
    >>> delivered(np.array([[0, -128]])).tolist()
    [[0, -64]]
    """
    low, high = int(weight.min()), int(weight.max())
    if low < 0 < high:
        weight = np.clip(weight, SMALLEST, LARGEST)
        low, high = int(weight.min()), int(weight.max())
    mixed = low < 0 <= high  # to netx; to Lava only if high > 0
    room = _room(low, high, mixed)
    even = _trailing_zeros(weight)
    shifted = weight << room
    cleared = room + even
    if high > 0:
        held = np.clip(shifted, SMALLEST, 255)
    else:
        cleared -= mixed
        if cleared < 0:
            raise Broken(
                f"its weights reach from {low} to 0 and one is odd, which lava-dl shifts by -1",
                "use even weights, or smaller ones",
                "weight-rounding",
            )
        held = -(np.minimum(-shifted, 255) >> cleared << cleared)
    if (held & ((1 << room) - 1)).any():
        raise Broken(
            f"its smallest weight, {low}, becomes {int(held.min()) / (1 << room)} in lava-dl's "
            "8 bits, which is no whole number",
            f"use {low + 1} instead",
            "weight-rounding",
        )
    return integers(held >> room)


def _room(low: int, high: int, mixed: bool) -> int:
    """Return by how many bits step 1 shifts to the left."""
    if low == high == 0:
        raise Broken(
            "all its weights are 0, lava-dl fails to load that", "remove the layer", "all-zero"
        )
    if mixed:
        positive = 127 / high if high else math.inf
        room = math.floor(math.log2(min(positive, -128 / low))) + 1
    else:
        room = math.floor(math.log2(255 / high if high > 0 else -256 / low))
    if room < 0:
        raise Broken(
            f"its weights reach from {low} to {high}, a synapse of one sign holds 255",
            "use smaller weights",
            "weight-range",
        )
    return room


def _trailing_zeros(weight: npt.NDArray[np.int64]) -> int:
    """Return how many low bits, at most 8, are zero in every weight."""
    used = int(np.bitwise_or.reduce(weight, axis=None))
    return min(8, (used & -used).bit_length() - 1)
