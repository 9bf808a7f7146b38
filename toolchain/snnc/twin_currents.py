"""Synaptic currents in torch, on any device: the sums that `snnc.twin` relies on.

Every product is added as it is, no kernel is transformed, so that a sum of integers is exact
wherever the sum of its magnitudes is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.errors import unreachable
from snnc.ir.program import Convolution, FullyConnected, Synapses

UNFOLDED = 2**25  # values of unfolded maps at once: bounds memory, none is kept for backward


def current(bundle: Synapses, weight: Tensor, x: Tensor) -> Tensor:
    """Return the current (batch, neurons) that x (batch, *source) causes."""
    match bundle.kind:
        case FullyConnected():
            return F.linear(x.flatten(1), weight)
        case Convolution() as kind:
            if x.device.type == "cpu" and x.dtype is torch.float32:
                with torch.backends.nnpack.flags(enabled=False):  # it would use Winograd
                    y = F.conv2d(x, weight, None, kind.stride, kind.padding, 1, kind.groups)
                return y.flatten(1)
            rows = max(1, UNFOLDED // (x[:1].numel() * weight[0, 0].numel()))
            return torch.cat([_unfolded(part, weight, kind) for part in torch.split(x, rows)])
        case _:
            unreachable(bundle.kind)


def _unfolded(x: Tensor, weight: Tensor, kind: Convolution) -> Tensor:
    """Return the cross-correlation (batch, out * H * W) as one product of unfolded maps."""
    columns = F.unfold(x, weight.shape[2:], padding=kind.padding, stride=kind.stride)
    matrices = weight.flatten(1).chunk(kind.groups)
    groups = columns.chunk(kind.groups, dim=1)  # channels come first in a column
    return torch.cat([m @ c for m, c in zip(matrices, groups, strict=True)], dim=1).flatten(1)


def later(emitted: Tensor, delay: int, steps: int) -> Tensor:
    """Return what arrives (steps, N, ...) of what was emitted (T, N, ...) `delay` steps earlier."""
    if not delay:
        return emitted
    silence = emitted.new_zeros(min(delay, steps), *emitted.shape[1:])
    return torch.cat([silence, emitted[: max(steps - delay, 0)]])
