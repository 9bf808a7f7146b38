"""Weights as Loihi's synapses hold them: 8 bits, times a power of two for each bundle.

Lava's Dense, Sparse and DelaySparse shift what they add up by `weight_exp` (lava-nc 0.10,
`proc/dense/models.py`). Conv ignores it (lava issue 803), and the host multiplies by what it is
given; so only matrices between neurons have an exponent.
"""

from __future__ import annotations

import numpy as np
from snnc.ir.program import INPUT, Synapses
from snnc.ir.weights import IntWeight, common_exponent, convert, stored

WEIGHT_MAX = 127  # signed 8 bits, without -128: Dense carries 2 w in 9 bits
EXPONENT_MAX = 7  # of ours; the chip's range is -8 to 7, and 2 w takes one away


def weight_exponent(synapses: Synapses) -> int | None:
    """Return the largest e with all weights multiples of 2**e; None if one is beyond 8 bits then.

    >>> from snnc.ir.program import FullyConnected
    >>> from snnc.ir.weights import Dense, integers
    >>> made = lambda *row: Synapses(
    ...     name="a", source="b", weight=Dense(integers([row])), kind=FullyConnected()
    ... )
    >>> [weight_exponent(made(*row)) for row in ((127, 4), (12, 4), (254, 4), (254, 3))]
    [0, 2, 1, None]
    """
    common = common_exponent(synapses.weight)
    shift = 0 if synapses.source == INPUT else min(common, EXPONENT_MAX)
    return shift if largest_weight(synapses) <= WEIGHT_MAX << shift else None


def largest_weight(synapses: Synapses) -> int:
    """Return the largest magnitude of a weight."""
    return int(np.abs(stored(synapses.weight)).max(initial=0))


def mantissas(synapses: Synapses) -> IntWeight:
    """Return the weights without their exponent; as they are where they have none."""
    shift = weight_exponent(synapses) or 0
    return convert(synapses.weight, lambda values: values >> shift, np.int32)
