"""Random connections: as many in each layer as LWM keeps, chosen by lot.

The mask of the baseline that trains sparse spiking networks end to end from random
connections (Schmolli et al., CPAL 2025, table 1).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from snnc.learn.fit import Training
from snnc.learn.prune.counts import kept
from snnc.learn.prune.masks import Masks, prunable
from snnc.learn.settings import Settings
from snnc.learn.stage import Context


class Random(Settings):
    """Prune weights by lot, the same share of every layer."""

    method: Literal["random"] = "random"
    sparsity: Annotated[float, Field(ge=0, lt=1)]
    finetune: Training | None = None


def random_masks(network: nn.Module, settings: Random, context: Context) -> Masks:
    """Return masks that depend on the context's seed and the layers' names only."""
    return {
        name: _drawn(weight, settings.sparsity, context.order(weight.numel(), "mask", name))
        for name, weight in prunable(network).items()
    }


def _drawn(weight: Tensor, sparsity: float, order: Tensor) -> Tensor:
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[: kept(weight.numel(), sparsity)]] = True
    return mask.reshape(weight.shape).to(weight.device)
