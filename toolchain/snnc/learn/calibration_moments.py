"""Mean and variance of the channels of a value that is never in memory as a whole."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Mean and variance of each channel over the rows and positions of many parts.

    Parts are merged in float64 with

        d = mean_b - mean_a,   n = n_a + n_b
        mean = mean_a + d n_b / n,   S = S_a + S_b + d^2 n_a n_b / n

    where S is the sum of squared deviations (Chan, Golub and LeVeque, 1979), so no large
    numbers cancel. Within a part they come from `torch.batch_norm_update_stats`, which is what
    batch norm itself calls and much faster than `torch.var_mean`.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = torch.zeros((), dtype=torch.float64)
        self._deviations = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take the next part (rows, channels, ...)."""
        count = values.numel() // values.shape[1]
        part_mean, part_variance = (
            moment.to(torch.float64)
            for moment in torch.batch_norm_update_stats(values, None, None, 0.0)
        )
        total = self._count + count
        apart = part_mean - self._mean.to(part_mean.device)
        self._mean = self._mean.to(part_mean.device) + apart * (count / total)
        self._deviations = (
            self._deviations.to(part_mean.device)
            + part_variance * count
            + apart.square() * (self._count * count / total)
        )
        self._count = total

    def result(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance (channels,), as batch norm normalises with them."""
        variance = self._deviations / self._count
        return self._mean.to(dtype), variance.to(dtype)
