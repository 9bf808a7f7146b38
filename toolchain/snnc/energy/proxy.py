"""The two figures of merit of Intel's N-DNS challenge, which count operations, not joules."""

from __future__ import annotations


def power_delay(
    operations: float, *, seconds: float, latency_seconds: float
) -> tuple[float, float]:
    """Return the power proxy, in operations per second, and its product with the latency.

    `operations` is SynOps + 10 NeuronOps of `seconds` of activity (the total of an estimate
    under `loihi2-opsproxy`); Timcheck et al. 2023, Neuromorph. Comput. Eng. 3, 034005.

    >>> power, product = power_delay(2.7226e6, seconds=0.020, latency_seconds=0.020024)
    >>> f"{power / 1e6:.2f} M-ops/s, {product / 1e6:.2f} M-ops"
    '136.13 M-ops/s, 2.73 M-ops'
    """
    power = operations / seconds
    return power, power * latency_seconds
