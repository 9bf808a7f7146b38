"""The moves of which inner maximisations are made, under the L-infinity norm.

Every tensor is made like the images: on their device and of their type. So the generator
must be on that device, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from snnc.learn.views import eval_view

Network = TypeVar("Network", bound=nn.Module)
LogitsLoss = Callable[[Tensor], Tensor]  # logits (N, classes) to one number

NOISE = 0.001  # standard deviation of the start of TRADES and MART, from their released code


def default_step(epsilon: float, steps: int) -> float:
    """Return 2.5 * epsilon / steps (Madry et al., ICLR 2018, section 5)."""
    return 2.5 * epsilon / steps


def uniform_start(images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """Return images moved uniformly within the epsilon ball, pixels in [0, 1]."""
    noise = torch.empty_like(images).uniform_(-epsilon, epsilon, generator=generator)
    return (images + noise).clamp(0, 1)


def normal_start(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images + 0.001 N(0, 1), pixels in [0, 1]: the start of TRADES and MART.

    At a clean image the divergence has no slope. Where epsilon is smaller than the noise,
    the first projection brings the images back.
    """
    return (images + NOISE * normal_noise(images, generator)).clamp(0, 1)


def normal_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers shaped like the images."""
    return torch.empty_like(images).normal_(generator=generator)


def frozen_view(network: Network) -> Network:
    """Return a view in eval mode whose parameters need no gradient: what an attack attacks.

    The parameters are aliases, so a step of the network's training shows in the view. A
    layer with a backward pass of its own then skips the gradients of its parameters, which
    it could not know to be unwanted, and nothing can be written into `grad`. Weights that
    are made of other parameters, as masks of scores are, are made once, here.
    """
    frozen = eval_view(network)
    for module in frozen.modules():
        module._parameters = {
            name: None if p is None else nn.Parameter(p.detach(), requires_grad=False)
            for name, p in module._parameters.items()
        }
    for module in list(frozen.modules()):
        if is_parametrized(module):
            _bake(module)
    return frozen


@torch.no_grad()
def _bake(module: nn.Module) -> None:
    """Replace what torch's parametrisations compute at every use by its present value.

    Torch's own way to remove them changes the class, which a view shares.
    """
    made = {name: getattr(module, name) for name in cast(nn.ModuleDict, module.parametrizations)}
    module.__class__ = type(module).__bases__[0]  # of which parametrising made a subclass
    del module._modules["parametrizations"]
    for name, value in made.items():
        module._parameters[name] = nn.Parameter(value, requires_grad=False)


def ascend(
    network: Callable[[Tensor], Tensor],
    objective: LogitsLoss,
    images: Tensor,
    start: Tensor,
    *,
    epsilon: float,
    step: float,
    steps: int,
) -> Tensor:
    """Return `start` after projected sign-gradient ascent of objective(network(x)).

    The result is within `epsilon` of `images` in every pixel, and in [0, 1].
    """
    x = start
    for _ in range(steps):
        moved = x + step * gradient_sign(network, objective, x)
        x = project(moved, images, epsilon)
    return x


def gradient_sign(
    network: Callable[[Tensor], Tensor], objective: LogitsLoss, images: Tensor
) -> Tensor:
    """Return sign(d objective(network(x)) / dx) at the images, also under `no_grad`."""
    x = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective(network(x)), x)
    return gradient.sign()


def project(moved: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """Return the nearest point within epsilon of the images and within [0, 1]."""
    return (images + (moved - images).clamp(-epsilon, epsilon)).clamp(0, 1)


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """Return the mean of `divergences` over the batch.

    >>> clean, adversarial = torch.tensor([[2.0, 0, -1]]), torch.tensor([[1.0, 0.5, -1]])
    >>> round(float(divergence(clean, adversarial)), 4)
    0.1718
    """
    return divergences(clean, adversarial).mean()


def divergences(clean: Tensor, adversarial: Tensor) -> Tensor:
    """Return KL(softmax(clean) || softmax(adversarial)) of each row of logits (N, classes).

    The direction is that of TRADES (Zhang et al., ICML 2019) and of both papers' code: the
    clean distribution weighs the logarithms. Differentiable in both arguments.
    """
    p, q = F.log_softmax(clean, dim=1), F.log_softmax(adversarial, dim=1)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(dim=1)
