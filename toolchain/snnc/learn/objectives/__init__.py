"""What training minimises: one file for each objective, one union of all.

Every objective makes its examples in pixel space [0, 1] on a view in eval mode (running
batch statistics, no dropout) and takes its loss on the network in the mode it is in, which
is train mode in the stages. The same objectives train ReLU networks and spiking ones.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from snnc.errors import unreachable
from snnc.learn.objectives.pgd import Pgd, pgd_loss
from snnc.learn.objectives.rfgsm import Rfgsm, rfgsm_loss
from snnc.learn.objectives.standard import Standard, standard_loss
from snnc.learn.objectives.trades import Trades, trades_loss

Objective = Annotated[Standard | Pgd | Trades | Rfgsm, Field(discriminator="kind")]

__all__ = ["Objective", "Pgd", "Rfgsm", "Standard", "Trades", "loss"]


def loss(
    objective: Standard | Pgd | Trades | Rfgsm,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Return the loss of one batch, ready for `backward`.

    Images (N, C, H, W) in [0, 1], labels (N,). Draws from `generator` only.
    """
    match objective:
        case Standard():
            return standard_loss(network, images, labels)
        case Pgd():
            return pgd_loss(objective, network, images, labels, generator)
        case Trades():
            return trades_loss(objective, network, images, labels, generator)
        case Rfgsm():
            return rfgsm_loss(objective, network, images, labels, generator)
        case _:
            unreachable(objective)
