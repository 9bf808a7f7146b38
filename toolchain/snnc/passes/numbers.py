"""The number formats that a target offers, and the width that a user asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from snnc.errors import InvalidSetting, UnknownName
from snnc.semantics.neuron import CURRENT_MAX, V_MAX

NARROWEST = 2  # bits of a weight: -1, 0 and 1


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The largest magnitude of each kind of integer, in units of current.

    Defaults are those of Loihi's LIF neuron with 8-bit weights (lava-nc 0.10, `proc/lif`):
    13-bit signed bias mantissa, 17-bit threshold mantissa, 24-bit membrane with 6 bits of
    alignment. A layer that reads only the image gets its current, bias included, from the
    host, so its bias has the width of a current.
    """

    weight_max: int = 2**7 - 1
    weight_exponent_max: int = 7  # of a power of two that the weights of a bundle share
    kernel_exponent_max: int = 7  # the same for full convolutions: within `weight_max` at most
    bias_max: int = 2**12 - 1
    input_bias_max: int = CURRENT_MAX
    image_current_max: int = CURRENT_MAX  # of a layer that reads the image, bias included
    threshold_max: int = CURRENT_MAX
    current_max: int = CURRENT_MAX
    accumulator_max: int = V_MAX  # of the readout, summed over all steps


@dataclass(frozen=True, kw_only=True)
class Bits:
    """How wide weights are, sign included: the layers named in `layers`, and all others.

    Only weights get narrower: bias, threshold and current keep the target's formats.
    """

    others: int
    layers: Mapping[str, int] = field(default_factory=dict)

    def of(self, layer: str) -> int:
        """Return the width of the weights of a layer (or of the accumulator)."""
        return self.layers.get(layer, self.others)


def weight_max(bits: int) -> int:
    """Return the largest weight of a width; the smallest is its negative.

    >>> [weight_max(bits) for bits in (8, 6, 4, 2)]
    [127, 31, 7, 1]
    """
    return int((1 << (bits - 1)) - 1)


def width(largest: int) -> int:
    """Return how many bits a weight of that magnitude needs, sign included.

    >>> [width(largest) for largest in (127, 100, 7, 1)]
    [8, 8, 4, 2]
    """
    return largest.bit_length() + 1


def checked_bits(bits: Bits, numbers: Numbers, layers: Collection[str]) -> Bits:
    """Return the widths if a target has them and every layer that they name is there.

    Raises:
        InvalidSetting: a width is below `NARROWEST` or above the target's.
        UnknownName: there is no such layer.
    """
    widest = width(numbers.weight_max)
    for each in (bits.others, *bits.layers.values()):
        if not NARROWEST <= each <= widest:
            raise InvalidSetting(
                f"weights of {each} bits were asked for; this target has {NARROWEST} to {widest}"
            )
    for name in bits.layers:
        if name not in layers:
            raise UnknownName("layer", name, layers)
    return bits
