"""Masks: for each prunable weight, which entries may differ from zero.

A mask is a value beside the network, not a wrapper inside it. Whoever changes weights
applies the masks afterwards, so momentum and weight decay cannot revive a weight.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from snnc.errors import Refusal
from snnc.learn.prune.counts import empty_layer, layer_of

Masks = Mapping[str, Tensor]  # parameter name to bool tensor of its shape, True where it lives


def prunable(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of every convolution and linear layer, first and last included.

    Biases and batch norm are never pruned (Schmolli et al., CPAL 2025, section 3.1).
    """
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
    }


def nonzero_masks(network: nn.Module) -> dict[str, Tensor]:
    """Return M = 1[W != 0] for every prunable weight (CPAL 2025, equation 9)."""
    return {name: weight.detach() != 0 for name, weight in prunable(network).items()}


def apply_masks(network: nn.Module, masks: Masks) -> None:
    """Set every masked weight to exactly zero, in place."""
    weights = prunable(network)
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].masked_fill_(~mask, 0.0)


def masked_copy(network: nn.Module, masks: Masks, *, sparsity: float) -> nn.Module:
    """Return a copy whose zeros are the masks; weights that survive are the same bits.

    `sparsity` is what the masks were chosen for, to be told if it was too much.

    Raises:
        Refusal: a layer would have no weight left; every such layer is named.
    """
    weights = prunable(network)
    empty = [
        empty_layer(name, f"sparsity {sparsity:g}", weights[name])
        for name, mask in masks.items()
        if not (mask & (weights[name] != 0)).any()
    ]
    if empty:
        raise Refusal("cannot prune the network", empty)
    pruned = copy.deepcopy(network)
    apply_masks(pruned, masks)
    return pruned


def sparsity(network: nn.Module) -> float:
    """Return the share of zeros among all prunable weights, counted by weights."""
    weights = prunable(network).values()
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / sum(weight.numel() for weight in weights)


def sparsity_metrics(network: nn.Module) -> dict[str, float]:
    """Return `sparsity`, and as `kept.<layer>` the share of each layer's weights that stay."""
    shares = {
        f"kept.{layer_of(name)}": float(mask.double().mean())
        for name, mask in nonzero_masks(network).items()
    }
    return {"sparsity": sparsity(network), **shares}
