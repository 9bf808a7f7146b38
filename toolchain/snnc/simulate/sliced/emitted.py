"""What a source emits, one bit for each neuron, step and sample.

A pixel is a run of bytes: step by step, the samples of a step in 1, 4 or 8 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.ir.weights import Shape
from snnc.simulate.trace import Spikes

ROOM = 64  # bytes that a vector may reach past the end


@dataclass(frozen=True, kw_only=True, eq=False)
class Emitted:
    """The spikes of a layer, or which pixels of an image are not zero."""

    space: npt.NDArray[np.uint8]  # (neurons * pixel + ROOM,)
    bits: npt.NDArray[np.uint8]  # (channels, height, width, pixel): a view of `space`
    shape: Shape

    @property
    def pixel(self) -> int:
        """The bytes of one neuron."""
        return int(self.bits.shape[-1])


def step_bytes(samples: int) -> int:
    """Return how many bytes hold the samples of one step of a chunk."""
    return next((size for size in (1, 4) if samples <= 8 * size), 8)


def blank(shape: Shape, pixel: int) -> Emitted:
    """Return space for what neurons emit."""
    space = np.zeros(prod(shape) * pixel + ROOM, dtype=np.uint8)
    planar = shape if len(shape) == 3 else (*shape, 1, 1)
    bits = space[: prod(shape) * pixel].reshape(*planar, pixel)
    return Emitted(space=space, bits=bits, shape=shape)


def from_flags(values: Spikes, size: int) -> Emitted:
    """Pack flags (samples, steps, *shape)."""
    samples, steps, *shape = values.shape
    result = blank(tuple(shape), steps * size)
    wide = np.zeros((*shape, steps, size * 8), dtype=np.bool_)
    wide[..., :samples] = np.moveaxis(values, (0, 1), (-1, -2))
    packed = np.packbits(wide, axis=-1, bitorder="little")
    result.bits[:] = packed.reshape(result.bits.shape)
    return result


def flags(emitted: Emitted, size: int, samples: int) -> Spikes:
    """Unpack to flags (samples, steps, *shape)."""
    steps = emitted.pixel // size
    by_step = emitted.bits.reshape(*emitted.shape, steps, size)
    wide = np.unpackbits(by_step, axis=-1, count=samples, bitorder="little")
    return np.ascontiguousarray(np.moveaxis(wide, (-1, -2), (0, 1))).view(np.bool_)
