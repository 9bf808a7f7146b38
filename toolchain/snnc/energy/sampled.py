"""A count with its spread over samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Mean over the samples and their standard deviation (n - 1); None for one sample."""

    mean: float
    std: float | None


def sampled(per_sample: npt.NDArray[np.int64]) -> Sampled:
    """Summarise one count for each sample; at least one.

    >>> import numpy as np
    >>> sampled(np.array([1, 3]))
    Sampled(mean=2.0, std=1.4142135623730951)
    >>> sampled(np.array([5]))
    Sampled(mean=5.0, std=None)
    """
    spread = float(per_sample.std(ddof=1)) if len(per_sample) > 1 else None
    return Sampled(mean=float(per_sample.mean()), std=spread)
