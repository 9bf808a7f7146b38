"""TRADES: clean accuracy traded for a smooth neighbourhood (Zhang et al., ICML 2019)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.learn.objectives.perturbation import (
    ascend,
    default_step,
    divergence,
    frozen_view,
    normal_start,
)
from snnc.learn.settings import Count, Epsilon, NotNegative, Settings


class Trades(Settings):
    """Clean cross entropy plus beta times the divergence that PGD finds."""

    kind: Literal["trades"] = "trades"
    epsilon: Epsilon
    steps: Count
    beta: NotNegative


def trades_loss(
    objective: Trades,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Return CE(f(x), y) + beta KL(f(x) || f(x~)), the mean over the batch.

    inner maximisation   x0 = x + 0.001 N(0, 1); K sign steps of 2.5 epsilon / K on the
                         divergence from the clean prediction, which is held fixed
    outer loss           CE(f(x), y) + beta (1 / N) sum KL(p(x) || p(x~)), both differentiated
    batch norm           frozen running statistics in the attack, then one update from x
                         and one from x~
    source               RobustSNNConversion, `utils.py` train, method "tpgd"
    """
    attacked = frozen_view(network)
    with torch.no_grad():
        target = attacked(images)
    adversarial = ascend(
        attacked,
        lambda logits: divergence(target, logits),
        images,
        normal_start(images, generator),
        epsilon=objective.epsilon,
        step=default_step(objective.epsilon, objective.steps),
        steps=objective.steps,
    )
    clean = network(images)
    return F.cross_entropy(clean, labels) + objective.beta * divergence(clean, network(adversarial))
