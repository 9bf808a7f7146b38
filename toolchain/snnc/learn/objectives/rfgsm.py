"""The objective of adversarial finetuning: one random and one gradient step, then KL."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.learn.objectives.perturbation import (
    divergence,
    frozen_view,
    gradient_sign,
    normal_noise,
    project,
)
from snnc.learn.settings import Epsilon, NotNegative, Settings


class Rfgsm(Settings):
    """Clean cross entropy plus beta times the divergence that RFGSM finds.

    The random part of the step is epsilon / 2, as in the papers' sample scripts
    (epsilon = 2/255, alpha = 1/255).
    """

    kind: Literal["rfgsm"] = "rfgsm"
    epsilon: Epsilon
    beta: NotNegative


def rfgsm(network: nn.Module, images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """Return images moved to diverge from the network's own prediction on clean ones.

    With a = epsilon / 2 and p = softmax(f(x)) held fixed:

        x' = clip(x + a sign(N(0, 1)), 0, 1)
        g  = d/dx' KL(p || softmax(f(x')))
        x~ = clip(x + clip(x' + (epsilon - a) sign(g) - x, -epsilon, epsilon), 0, 1)

    Source: RobustSNNConversion, `attacks/rfgsm.py` with loss "kl"; the scheme is R+FGSM of
    Tramer et al., ICLR 2018.
    """
    with torch.no_grad():
        target = network(images)
    a = epsilon / 2
    start = (images + a * normal_noise(images, generator).sign()).clamp(0, 1)
    sign = gradient_sign(network, lambda logits: divergence(target, logits), start)
    return project(start + (epsilon - a) * sign, images, epsilon)


def rfgsm_loss(
    objective: Rfgsm,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Return CE(f(x), y) + beta KL(f(x) || f(x~)), the mean over the batch.

    inner maximisation   `rfgsm` on a view in eval mode, with the network's own surrogate
    outer loss           CE(f(x), y) + beta (1 / N) sum KL(p(x) || p(x~)), both differentiated
    batch norm           frozen running statistics in the attack, then one update from x
                         and one from x~
    source               Schmolli et al., CPAL 2025, equation 8
    """
    adversarial = rfgsm(frozen_view(network), images, objective.epsilon, generator)
    clean = network(images)
    return F.cross_entropy(clean, labels) + objective.beta * divergence(clean, network(adversarial))
