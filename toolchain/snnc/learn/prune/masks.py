"""Masks: for each prunable weight, which entries may differ from zero.

A mask is a value beside the network, not a wrapper inside it. Whoever changes weights
applies the masks afterwards, so momentum and weight decay cannot revive a weight.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

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


def sparsity(network: nn.Module) -> float:
    """Return the share of zeros among all prunable weights, counted by weights."""
    weights = prunable(network).values()
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / sum(weight.numel() for weight in weights)
