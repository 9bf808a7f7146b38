"""Spike trains of one layer, eight spikes to the byte.

A spike train of T steps is kept for each sample on its own, so that any run of samples
can be written or read. Within a sample, spike i of the T * neurons spikes is bit i // K of
byte i % K, with K bytes for a sample: eight long runs, each shifted as a whole.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.learn.neurons import expand, merge


class PackedSpikes:
    """Spikes of `samples` samples of a layer of `shape`, for `steps` steps. All 0 at first."""

    def __init__(
        self, *, samples: int, steps: int, shape: tuple[int, ...], device: torch.device
    ) -> None:
        self._steps = steps
        self._shape = shape
        self._spikes = steps * torch.Size(shape).numel()  # of one sample
        width = -(-self._spikes // 8)
        self._bytes = torch.zeros(samples, width, dtype=torch.uint8, device=device)

    @property
    def nbytes(self) -> int:
        """The memory that the spikes take."""
        return self._bytes.nbytes

    def write(self, samples: slice, spikes: Tensor) -> None:
        """Keep the spikes (T * n, ...), 0 or 1, time-major, of n consecutive samples."""
        train = expand(spikes.to(torch.uint8), self._steps).transpose(0, 1).flatten(1)
        runs = F.pad(train, (0, -self._spikes % 8)).view(len(train), 8, -1)
        packed = runs[:, 0].clone()
        for bit in range(1, 8):
            packed |= runs[:, bit] << bit
        self._bytes[samples] = packed

    def read(self, samples: slice, dtype: torch.dtype) -> Tensor:
        """Return the spikes (T * n, ...) of n consecutive samples, time-major."""
        packed = self._bytes[samples]
        runs = packed.new_empty(len(packed), 8, packed.shape[1])
        for bit in range(8):
            runs[:, bit] = (packed >> bit) & 1
        train = runs.flatten(1)[:, : self._spikes].reshape(-1, self._steps, *self._shape)
        return merge(train.transpose(0, 1)).to(dtype)
