"""What training minimises: one file for each objective, one union of all.

Every objective makes its examples in pixel space [0, 1] on a view in eval mode (running
batch statistics, no dropout) and takes its loss on the network in the mode it is in, which
is train mode in the stages. The same objectives train ReLU networks and spiking ones; on a
spiking one the attack differentiates through time with the network's own surrogate.

Logits must come as floats of 32 bits or more: under autocast too, the losses are not
computed in a half precision.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from snnc.errors import InvalidSetting, unreachable
from snnc.learn.objectives.mart import Mart, mart_loss
from snnc.learn.objectives.pgd import Pgd, pgd_loss
from snnc.learn.objectives.rfgsm import Rfgsm, rfgsm_loss
from snnc.learn.objectives.standard import Standard, standard_loss
from snnc.learn.objectives.trades import Trades, trades_loss

Objective = Annotated[Standard | Pgd | Trades | Mart | Rfgsm, Field(discriminator="kind")]

__all__ = ["Mart", "Objective", "Pgd", "Rfgsm", "Standard", "Trades", "loss", "scaled"]


def loss(
    objective: Objective,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Return the loss of one batch, ready for `backward`.

    Images (N, C, H, W) in [0, 1], labels (N,). Draws from `generator` only, which is on the
    device of the images.
    """
    match objective:
        case Standard():
            return standard_loss(network, images, labels)
        case Pgd():
            return pgd_loss(objective, network, images, labels, generator)
        case Trades():
            return trades_loss(objective, network, images, labels, generator)
        case Mart():
            return mart_loss(objective, network, images, labels, generator)
        case Rfgsm():
            return rfgsm_loss(objective, network, images, labels, generator)
        case _:
            unreachable(objective)


def scaled(objective: Objective, factor: float) -> Objective:
    """Return the objective with `factor` times its epsilon; step lengths follow epsilon.

    An objective without an adversary is returned as it is.

    Raises InvalidSetting if `factor` is outside (0, 1].

    >>> scaled(Rfgsm(epsilon=0.5, beta=2.0), 0.25).epsilon
    0.125
    """
    if not 0 < factor <= 1:
        raise InvalidSetting(f"epsilon cannot be scaled by {factor}; take a factor in (0, 1]")
    match objective:
        case Standard():
            return objective
        case Pgd() | Trades() | Mart() | Rfgsm():
            return objective.model_copy(update={"epsilon": factor * objective.epsilon})
        case _:
            unreachable(objective)
