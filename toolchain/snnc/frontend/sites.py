"""What a rule of the torch frontend gets and returns.

A rule has the signature of the function it stands for, behind a `Site`, so that Python
binds the arguments. It gets a `Map` for what depends on the image, a tensor for a constant,
and plain Python for the rest. It returns the ops that take the place of the call, one
feeding the next, or a `Scaling`: arithmetic on the pixels, which `Normalize` will do. What
a rule cannot say exactly, it refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import torch.fx
from torch import Tensor

from snnc.ir.graph import Op
from snnc.ir.weights import FloatArray, Shape, floats


@dataclass(frozen=True, eq=False)
class Scaling:
    """What was done to the pixels so far: (x - mean) / std for each channel, in float64."""

    mean: FloatArray  # (channels,)
    std: FloatArray  # (channels,)


@dataclass(frozen=True, eq=False)
class Map:
    """A value that depends on the image: the output of the graph node called `source`."""

    source: str
    shape: Shape  # without the batch
    scaling: Scaling | None = None  # of the pixels; None for what is not the input itself
    fires: bool = False  # what neurons emit: spikes, or the ReLU that will become spikes


@dataclass(frozen=True)
class Site:
    """A call in the traced network, and the shape it returned."""

    node: torch.fx.Node
    shape: Shape  # without the batch


Result = tuple[Op, ...] | Scaling
Rule = Callable[..., Result]
Pair = tuple[int, int]


class Refused(Exception):
    """A rule does not apply: (problem, remedy, code)."""


def refuse(problem: str, remedy: str, code: str = "unsupported") -> NoReturn:
    """Leave a rule; whoever called it lists the reason."""
    raise Refused(problem, remedy, code)


def array(tensor: Tensor) -> FloatArray:
    """Return a float64 copy of float weights: exact, so zeros stay zero."""
    return floats(tensor.detach().cpu().double().numpy())


def pair(value: object) -> Pair:
    """Return (height, width) from one number or two, as PyTorch reads its size arguments."""
    match value:
        case int(both):
            return both, both
        case [int(both)]:
            return both, both
        case [int(height), int(width)]:
            return height, width
        case _:
            refuse(f"has the size {value!r}", "give a number, or a height and a width")
