"""LWM, lowest weight magnitude: the smallest weights go.

Per layer, every layer has the same sparsity ("uniform"; Schmolli et al., CPAL 2025,
equations 5 and 6). Globally, one threshold holds for all layers, as `global_unstructured`
does in torch and in IGITUGraz/RobustModelCompression. The count that stays is HYDRA's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from snnc.errors import InvalidSetting, Refusal, unreachable
from snnc.learn.fit import Training
from snnc.learn.prune.counts import emptied, kept, largest
from snnc.learn.prune.masks import Masks, masked_copy, prunable
from snnc.learn.settings import Settings


class Magnitude(Settings):
    """Prune the smallest weights, of each layer or of all layers together."""

    method: Literal["magnitude"] = "magnitude"
    sparsity: Annotated[float, Field(ge=0, lt=1)]
    scope: Literal["layer", "global"]
    finetune: Training | None = None


def magnitude_masks(network: nn.Module, settings: Magnitude) -> Masks:
    """Return the masks of the largest |weight|, first and last layer included."""
    weights = prunable(network)
    match settings.scope:
        case "layer":
            return {n: magnitude_mask(w, settings.sparsity) for n, w in weights.items()}
        case "global":
            return _global_masks(weights, settings.sparsity)
        case _:
            unreachable(settings.scope)


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """Return the mask of the `kept` largest |weight|; of equal ones the first stays."""
    return largest(weight.abs(), kept(weight.numel(), sparsity))


def prune(network: nn.Module, *, sparsity: float) -> nn.Module:
    """Return a copy whose every convolution and linear layer has `sparsity` of zeros.

    Raises:
        InvalidSetting: `sparsity` is outside [0, 1).
        Refusal: a layer would lose all its weights; every such layer is named.
    """
    if not 0 <= sparsity < 1:
        raise InvalidSetting(f"sparsity is {sparsity}; take a value from 0 up to, not including, 1")
    if empty := emptied(prunable(network), sparsity):
        raise Refusal("cannot prune the network", empty)
    settings = Magnitude(sparsity=float(sparsity), scope="layer")
    return masked_copy(network, magnitude_masks(network, settings), sparsity=sparsity)


def _global_masks(weights: Mapping[str, Tensor], sparsity: float) -> Masks:
    """Return the masks of the largest |weight| of all layers together."""
    sizes = [weight.numel() for weight in weights.values()]
    everything = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    chosen = torch.split(largest(everything, kept(len(everything), sparsity)), sizes)
    return {
        name: mask.reshape(weight.shape)
        for (name, weight), mask in zip(weights.items(), chosen, strict=True)
    }
