"""Shares of samples with their uncertainty.

An interval covers the choice of samples and nothing else. That an attack is too weak, or
that another training seed gives another network, is no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidSetting

Outcomes = npt.NDArray[np.bool_]
Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """`correct` of `samples`, with its Wilson interval at 95 %.

    Raises InvalidSetting unless 0 <= correct <= samples and samples >= 1.

    >>> Proportion(correct=9, samples=10).value
    0.9
    """

    correct: int
    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1 or not 0 <= self.correct <= self.samples:
            raise InvalidSetting(
                f"{self.correct} of {self.samples} samples is not a share; use at least one sample"
            )

    @property
    def value(self) -> float:
        """The share."""
        return self.correct / self.samples

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return wilson(self.correct, self.samples)[0]

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return wilson(self.correct, self.samples)[1]

    def to_json(self) -> dict[str, float]:
        """Return the share and its interval as JSON."""
        return {
            "correct": self.correct,
            "samples": self.samples,
            "value": self.value,
            "low": self.low,
            "high": self.high,
        }


def proportion(outcomes: Outcomes) -> Proportion:
    """Return the share of samples (samples,) that are true."""
    return Proportion(correct=int(outcomes.sum()), samples=len(outcomes))


def wilson(correct: int, samples: int, z: float = Z_95) -> tuple[float, float]:
    """Return the score interval of a share (E. B. Wilson, JASA 22, 1927):

        (p + z^2 / 2n  +-  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    >>> [round(end, 4) for end in wilson(0, 10)]
    [0.0, 0.2775]
    """
    p, n = correct / samples, samples
    centre = p + z**2 / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    return (0.0 if correct == 0 else low), (1.0 if correct == samples else high)


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two networks on the same samples: where exactly one of them was right."""

    only_first: int
    only_second: int

    @property
    def p_value(self) -> float:
        """The exact two-sided p of McNemar's test, 1 if the two never differ.

        Under equal error rates each discordant pair falls to either side with probability
        1/2 (Q. McNemar, Psychometrika 12, 1947; exact form by the binomial distribution).
        """
        n = self.only_first + self.only_second
        tail = ways = 1  # ways is n choose k, in whole numbers: nothing rounds or overflows
        for k in range(min(self.only_first, self.only_second)):
            ways = ways * (n - k) // (k + 1)
            tail += ways
        return min(1.0, 2 * tail / (1 << n))

    def to_json(self) -> dict[str, float]:
        """Return the discordant counts and p as JSON."""
        return {
            "only_first": self.only_first,
            "only_second": self.only_second,
            "p_value": self.p_value,
        }


def mcnemar(first: Outcomes, second: Outcomes) -> Paired:
    """Compare two networks by what they got right (samples,), on the same samples.

    Raises:
        InvalidSetting: the numbers of samples differ.
    """
    if first.shape != second.shape:
        raise InvalidSetting(
            f"{first.shape} and {second.shape} samples cannot be paired; use the same samples"
        )
    return Paired(only_first=int((first & ~second).sum()), only_second=int((second & ~first).sum()))
