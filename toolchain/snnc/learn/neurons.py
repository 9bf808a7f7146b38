"""The spiking layer, and the normalisation that stands inside a network.

Time is merged into the batch: a tensor of T steps and N samples has T * N rows, and row
t * N + n is sample n at step t (time-major). Every layer but `Fire` works on each row
alone, so an ordinary module runs on the merged batch unchanged; batch norm then takes its
statistics over steps and samples together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnc.errors import InvalidSetting
from snnc.ir.graph import Granularity, Reset
from snnc.learn.dynamics import Rule, integrate
from snnc.learn.surrogates import Surrogate

THRESHOLD_FLOOR = 0.03  # smallest threshold a neuron runs with, from RobustSNNConversion


def merge(steps: Tensor) -> Tensor:
    """(T, N, ...) to (T * N, ...), time-major."""
    return steps.flatten(0, 1)


def expand(merged: Tensor, steps: int) -> Tensor:
    """(T * N, ...) to (T, N, ...), time-major; the inverse of `merge`."""
    return merged.reshape(steps, -1, *merged.shape[1:])


class Normalize(nn.Module):
    """y = (x - mean) / std for each channel of (N, C, H, W).

    Plain arithmetic on buffers of shape (C, 1, 1), so that tracing sees a `sub` and a `div`.

    Raises InvalidSetting if the lengths differ or a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(s > 0 for s in std):
            raise InvalidSetting(
                f"Normalize: {len(mean)} means and standard deviations {list(std)}; "
                "give one of each for every channel, the deviations above 0"
            )
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised images, shape unchanged."""
        return (images - self.mean) / self.std


class Fire(nn.Module):
    """Integrate and fire, in floats, differentiable through time and through the reset:

        v <- keep * v + current;   spike where v >= threshold;   then reset

    with v = 0 before the first step of every call. `keep` = 1 is the IF neuron. Spikes
    have amplitude 1. The gradient reaches the threshold through v - threshold (and, with
    `Reset.SUBTRACT`, through what a spike takes away) and is never detached at the reset.

    `threshold` has shape () for one per layer, (channels,) for one per channel, or the
    shape of the layer. Whatever its value, no neuron runs below `THRESHOLD_FLOOR`.

    Raises InvalidSetting if `steps` < 1 or `keep` is outside [0, 1].
    """

    def __init__(
        self,
        *,
        threshold: Tensor,
        granularity: Granularity,
        reset: Reset,
        keep: float,
        steps: int,
        surrogate: Surrogate,
    ) -> None:
        super().__init__()
        if steps < 1:
            raise InvalidSetting(f"steps is {steps}; a spiking layer needs at least 1")
        if not 0 <= keep <= 1:
            raise InvalidSetting(f"keep is {keep}; take a value in [0, 1], 1 for no leak")
        self.threshold = nn.Parameter(threshold.clone())
        self.granularity = granularity
        self.reset = reset
        self.keep = keep
        self.steps = steps
        self.surrogate = surrogate

    def forward(self, current: Tensor, *, constant: bool = False) -> Tensor:
        """Return spikes (T * N, ...) for the input current (T * N, ...), both time-major.

        With `constant`, the current is (N, ...) and drives the neurons at every step. The
        membranes are float32 at least; the spikes have the dtype of the current.
        """
        steps = expand(current, 1 if constant else self.steps)
        rule = Rule(steps=self.steps, keep=self.keep, reset=self.reset, surrogate=self.surrogate)
        return merge(integrate(steps, self._aligned(current.dim() - 1), rule))

    def _aligned(self, dimensions: int) -> Tensor:
        """Return the threshold in use, shaped to broadcast over a layer of `dimensions`."""
        threshold = self.threshold.clamp(min=THRESHOLD_FLOOR)
        if self.granularity is Granularity.CHANNEL:
            return threshold.reshape(-1, *(1,) * (dimensions - 1))
        return threshold

    def extra_repr(self) -> str:
        """Return what `print` shows of the layer."""
        return (
            f"{self.granularity.value} thresholds, reset to {self.reset.value}, "
            f"keep={self.keep:g}, steps={self.steps}, {self.surrogate}"
        )


@torch.no_grad()
def raise_to_floor(network: nn.Module) -> None:
    """Lift every stored threshold below `THRESHOLD_FLOOR` to it, in place.

    Below the floor a threshold has no gradient, so an optimiser could never bring it back.
    """
    for module in network.modules():
        if isinstance(module, Fire):
            module.threshold.clamp_(min=THRESHOLD_FLOOR)
