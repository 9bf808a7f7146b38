"""LWM, lowest weight magnitude: in each layer the smallest weights go.

Every layer has the same sparsity ("uniform"). Source: Schmolli et al., CPAL 2025,
equations 5 and 6; the count that stays is HYDRA's.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from snnc.errors import InvalidSetting, Issue, Refusal
from snnc.learn.prune.masks import apply_masks, prunable


def kept(weights: int, sparsity: float) -> int:
    """Return how many of a layer's weights stay: n - int((1 - k) n), with k = 1 - sparsity.

    The product is rounded to nine digits first, so that 0.9 of 1000 is 900 although
    floats say otherwise. Source: `layers.py` of inspire-group/hydra.

    >>> kept(1728, 0.9), kept(36864, 0.95), kept(2560, 0.99)
    (173, 1844, 26)
    """
    return weights - int(round(sparsity * weights, 9))


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """Return the mask of the `kept` largest |weight|; of equal ones the first stays."""
    order = weight.detach().abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[order[: kept(weight.numel(), sparsity)]] = True
    return mask.reshape(weight.shape)


def prune(network: nn.Module, *, sparsity: float) -> nn.Module:
    """Return a copy whose every convolution and linear layer has `sparsity` of zeros.

    Raises:
        InvalidSetting: `sparsity` is outside [0, 1).
        Refusal: a layer would lose all its weights; every such layer is named.
    """
    if not 0 <= sparsity < 1:
        raise InvalidSetting(f"sparsity is {sparsity}; take a value from 0 up to, not including, 1")
    pruned = copy.deepcopy(network)
    weights = prunable(pruned)
    empty = [
        Issue(
            name.removesuffix(".weight"),
            f"sparsity {sparsity} leaves none of its {weight.numel()} weights",
            "lower the sparsity or widen the layer",
            "empty-layer",
        )
        for name, weight in weights.items()
        if kept(weight.numel(), sparsity) == 0
    ]
    if empty:
        raise Refusal("cannot prune the network", empty)
    apply_masks(pruned, {n: magnitude_mask(weight, sparsity) for n, weight in weights.items()})
    return pruned
