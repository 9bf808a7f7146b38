"""Ordinary training: no adversary. It makes the normally trained twin."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from snnc.learn.settings import Settings


class Standard(Settings):
    """Cross entropy of clean images."""

    kind: Literal["standard"] = "standard"


def standard_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return CE(f(x), y).

    inner maximisation   none
    outer loss           CE(f(x), y)
    batch norm           one update, from the clean images
    """
    return F.cross_entropy(network(images), labels)
