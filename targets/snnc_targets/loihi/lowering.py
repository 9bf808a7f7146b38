"""How a program becomes a Lava network, where there is a choice.

Every choice gives the same spikes, logits and events; they differ in what they cost and in
which programs they can carry (`limits` refuses the others).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Image(Enum):
    """How the image reaches the neurons that read it."""

    HOST = "host"
    BIAS = "bias"
    GRADED = "graded"


class Convolutions(Enum):
    """What carries a convolution."""

    AUTO = "auto"
    CONV = "conv"
    SPARSE = "sparse"


@dataclass(frozen=True, kw_only=True)
class Lowering:
    """One of each choice."""

    image: Image
    convolutions: Convolutions


USUAL = Lowering(image=Image.HOST, convolutions=Convolutions.AUTO)  # of the target `loihi`
# a chip takes no current from outside, and stores a kernel once, a matrix pixel by pixel
USUAL_ON_CHIP = Lowering(image=Image.BIAS, convolutions=Convolutions.CONV)

IMAGE: Mapping[str, str] = MappingProxyType(
    {
        Image.HOST.value: "the host adds the image's current to the neurons at every step: any "
        "precision, no synapse on the chip, a message for each neuron and step",
        Image.BIAS.value: "the host writes the image's current as the neurons' bias, once for "
        "each sample: no synapse and no message later, but 13 bits for the whole current",
        Image.GRADED.value: "the image enters as graded spikes: the chip multiplies, which costs "
        "every synapse of every pixel that is not 0 at every step",
    }
)
CONVOLUTIONS: Mapping[str, str] = MappingProxyType(
    {
        Convolutions.AUTO.value: "each as Conv or as an unrolled sparse matrix, whichever "
        "simulates faster; the mapping says which and why",
        Convolutions.CONV.value: "Conv, which stores a kernel once, zeros included; convolutions "
        "with delays or weights beyond 8 bits are unrolled nevertheless",
        Convolutions.SPARSE.value: "unrolled to a sparse matrix: one word for each synapse, none "
        "for a zero weight",
    }
)
