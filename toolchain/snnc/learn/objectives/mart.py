"""MART: misclassified images count more (Wang et al., ICLR 2020)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.learn.objectives.perturbation import (
    ascend,
    default_step,
    divergences,
    frozen_view,
    normal_start,
)
from snnc.learn.settings import Count, Epsilon, NotNegative, Settings

# The constants of the released code keep logarithms and weights above zero.
MARGIN_OFFSET = 1.0001
MARGIN_FLOOR = 1e-12
WEIGHT_OFFSET = 1.0000001


class Mart(Settings):
    """Boosted cross entropy plus beta times the divergence of images named wrongly."""

    kind: Literal["mart"] = "mart"
    epsilon: Epsilon
    steps: Count
    beta: NotNegative  # the paper's lambda


def mart_loss(
    objective: Mart,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Return BCE(f(x~), y) + beta KL(f(x) || f(x~)) (1 - p_y(x)), the mean over the batch.

    inner maximisation   x0 = x + 0.001 N(0, 1); K sign steps of 2.5 epsilon / K on CE
    outer loss           `boosted_cross_entropy` of f(x~), plus beta times
                         `weighted_divergence`; f(x) and f(x~) are both differentiated
    batch norm           frozen running statistics in the attack, then one update from x
                         and one from x~
    source               RobustSNNConversion, `utils.py` train, method "mart"
    """
    adversarial = ascend(
        frozen_view(network),
        lambda logits: F.cross_entropy(logits, labels, reduction="sum"),
        images,
        normal_start(images, generator),
        epsilon=objective.epsilon,
        step=default_step(objective.epsilon, objective.steps),
        steps=objective.steps,
    )
    clean = network(images)
    attacked = network(adversarial)
    return boosted_cross_entropy(attacked, labels) + objective.beta * weighted_divergence(
        clean, attacked, labels
    )


def boosted_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return CE(z, y) - mean log(1.0001 - max_{k != y} p_k + 1e-12), with p = softmax(z).

    Logits (N, classes), labels (N,). The second term is the margin: it also pushes the
    strongest wrong class down.
    """
    wrong = logits.softmax(dim=1).scatter(1, labels[:, None], 0.0).max(dim=1).values
    margin = -torch.log(MARGIN_OFFSET - wrong + MARGIN_FLOOR).mean()
    return F.cross_entropy(logits, labels) + margin


def weighted_divergence(clean: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
    """Return (1 / N) sum KL(p(x) || p(x~)) (1.0000001 - p_y(x)), logits (N, classes).

    The less the label is believed on the clean image, the more its divergence counts; the
    weight is differentiated too.
    """
    believed = clean.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    return (divergences(clean, adversarial) * (WEIGHT_OFFSET - believed)).mean()
