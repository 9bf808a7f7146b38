"""Adversarial training with projected gradient descent (Madry et al., ICLR 2018)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.learn.objectives.perturbation import (
    ascend,
    default_step,
    frozen_view,
    uniform_start,
)
from snnc.learn.settings import Count, Epsilon, Settings


class Pgd(Settings):
    """Cross entropy of the worst images that PGD finds."""

    kind: Literal["pgd"] = "pgd"
    epsilon: Epsilon
    steps: Count


def pgd_loss(
    objective: Pgd, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Return CE(f(x~), y).

    inner maximisation   x0 = x + U(-epsilon, epsilon); K sign steps of 2.5 epsilon / K on CE
    outer loss           CE(f(x~), y)
    batch norm           frozen running statistics in the attack, one update from x~
    source               RobustSNNConversion, `utils.py` train, method "pgd"
    """
    adversarial = ascend(
        frozen_view(network),
        lambda logits: F.cross_entropy(logits, labels, reduction="sum"),
        images,
        uniform_start(images, objective.epsilon, generator),
        epsilon=objective.epsilon,
        step=default_step(objective.epsilon, objective.steps),
        steps=objective.steps,
    )
    return F.cross_entropy(network(adversarial), labels)
