"""The number formats that a target offers."""

from __future__ import annotations

from dataclasses import dataclass

from snnc.semantics.neuron import CURRENT_MAX, V_MAX


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The largest magnitude of each kind of integer, in units of current.

    Defaults are those of Loihi's LIF neuron with 8-bit weights (lava-nc 0.10, `proc/lif`):
    13-bit signed bias mantissa, 17-bit threshold mantissa, 24-bit membrane with 6 bits of
    alignment. A layer that reads only the image gets its current, bias included, from the
    host, so its bias has the width of a current.
    """

    weight_max: int = 2**7 - 1
    bias_max: int = 2**12 - 1
    input_bias_max: int = CURRENT_MAX
    threshold_max: int = CURRENT_MAX
    current_max: int = CURRENT_MAX
    accumulator_max: int = V_MAX  # of the readout, summed over all steps
