"""Percentiles of more values than memory holds, of one row of values or of many at once.

The percentile rho of n values is their k-th smallest, k = 1 + round(0.01 rho (n - 1))
(`find_threshold` of RobustSNNConversion), which is their m-th largest, m = n - k + 1. At
the papers' rho = 99.7 that is the smallest of the upper 0.3 %, so keeping these few is
enough, and exact: 1.3 million of the 420 million currents of VGG-16's first layers. Only
where too many values lie above the percentile are they counted in bins instead.

    stream      keeps                                     error of the result
    Largest     the m largest values of each row          0
    Histogram   2^p counts for each octave, of each row   at most 2^-(p+1) + 2^-24, relative
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnc.errors import InvalidSetting

KEPT = 1 << 24  # values above the percentile, over all rows, up to which they are kept: 64 MB
BINS = 1 << 24  # counts of a histogram, over all rows: 128 MB
PIECE = 1 << 16  # values of one row that are looked at together: the first give a bound
FINEST, COARSEST = 12, 6  # p: relative errors of 0.012 % and 0.8 %

MANTISSA = 23  # bits of a float32
LOWEST = -20  # octaves start at 2^-20; a smaller value counts as 0
OCTAVES = 128 - LOWEST  # up to the largest float32
PATTERN = (127 + LOWEST) << MANTISSA  # the bits of 2^-20


def from_top(count: int, rho: float) -> int:
    """Return m: the percentile `rho` of `count` values is their m-th largest.

    >>> from_top(1000, 99.7), from_top(64, 99.7)
    (4, 1)
    """
    return count - round(0.01 * rho * (count - 1))


def percentile(values: Tensor, rho: float) -> float:
    """Return the k-th smallest of n values, k = 1 + round(0.01 rho (n - 1)).

    >>> percentile(torch.arange(1, 1001), 99.7), percentile(torch.arange(1, 65), 99.7)
    (997.0, 64.0)
    """
    k = 1 + round(0.01 * rho * (values.numel() - 1))
    return float(values.flatten().kthvalue(k).values)


class Largest:
    """The percentile of each row, exactly, from the m largest values seen so far.

    Holds at most 2 m values of each row, and the part that was added last.
    """

    def __init__(self, *, rows: int, count: int, rho: float) -> None:
        self.error = 0.0
        self._wanted = from_top(count, rho)
        self._kept = torch.empty(rows, 0)
        self._new: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        """Take the next values (rows, any number), of one floating-point type throughout."""
        size = max(4 * self._wanted, PIECE) if len(values) == 1 else max(values.shape[1], 1)
        for piece in torch.split(values, size, 1):
            self._add(piece)

    def result(self) -> Tensor:
        """Return the percentile of each row (rows,), once all values are added."""
        self._compact()
        return self._kept.amin(1)

    def _add(self, values: Tensor) -> None:
        if len(values) == 1 and self._kept.shape[1] == self._wanted:
            bound = self._kept.min()  # already m values are as large as this
            values = values[:, values[0] > bound]
        self._new.append(values)
        if sum(part.shape[1] for part in self._new) > self._wanted:
            self._compact()

    def _compact(self) -> None:
        if self._new:
            kept = [self._kept] if self._kept.shape[1] else []
            together = torch.cat([*kept, *self._new], 1)
            size = min(self._wanted, together.shape[1])
            self._kept = together.topk(size, dim=1, sorted=False).values
            self._new.clear()


class Histogram:
    """The percentile of each row from counts in bins whose width follows the value.

    A bin holds the float32 numbers that agree in their exponent e and the first p bits of
    their mantissa, an interval [a, a + 2^(e-p)) with a >= 2^e. The result is the middle of
    the bin in which the percentile q lies, so

        |result - q|  <=  2^(e-p) / 2  <=  2^-(p+1) q

    and values of float64, which are rounded to float32 first, add 2^-24. Below 2^-20 there
    is one bin for all, negative values included, and the result is 0: there q <= 2^-20.

    p is as large as `bins` counts over all rows allow, from `COARSEST` to `FINEST`.

    Raises InvalidSetting if there are too many rows for the coarsest.
    """

    def __init__(self, *, rows: int, count: int, rho: float, bins: int = BINS) -> None:
        fitting = (p for p in range(FINEST, COARSEST - 1, -1) if rows * _bins(p) <= bins)
        bits = next(fitting, None)
        if bits is None:
            raise InvalidSetting(
                f"percentile {rho:g} of {count} values for each of {rows} thresholds needs more "
                "memory than a calibration may take; raise the percentile, share thresholds "
                "(granularity layer or channel), or take fewer steps or smaller batches"
            )
        self.error = 2.0 ** -(bits + 1) + 2.0**-24
        self._bits = bits
        self._wanted = from_top(count, rho)
        self._counts = torch.zeros(rows, _bins(bits), dtype=torch.int64)

    def add(self, values: Tensor) -> None:
        """Take the next values (rows, any number)."""
        rows, bins = self._counts.shape
        positive = values.to(torch.float32).clamp(min=2.0 ** (LOWEST - 1)).contiguous()
        index = (positive.view(torch.int32) - PATTERN) >> (MANTISSA - self._bits)
        index = index.clamp(min=-1).to(torch.int64) + 1
        index += torch.arange(rows, device=values.device)[:, None] * bins
        counted = torch.bincount(index.flatten(), minlength=rows * bins)
        self._counts = self._counts.to(values.device) + counted.view(rows, bins)

    def result(self) -> Tensor:
        """Return the percentile of each row (rows,), float32, once all values are added."""
        above = self._counts.flip(1).cumsum(1)
        bins = above.shape[1] - 1 - (above >= self._wanted).to(torch.int8).argmax(1)
        shift = MANTISSA - self._bits
        pattern = PATTERN + ((bins - 1) << shift) + (1 << (shift - 1))
        middle = pattern.to(torch.int32).view(torch.float32)
        return torch.where(bins > 0, middle, 0.0)


def stream(*, rows: int, count: int, rho: float, kept: int = KEPT) -> Largest | Histogram:
    """Return what finds the percentile of `rows` rows of `count` values each.

    Exact if at most `kept` values lie at or above the percentiles.

    Raises:
        InvalidSetting: they are more, and the rows are too many to count in bins.
    """
    if rows * from_top(count, rho) <= kept:
        return Largest(rows=rows, count=count, rho=rho)
    return Histogram(rows=rows, count=count, rho=rho)


def _bins(bits: int) -> int:
    return (OCTAVES << bits) + 1
