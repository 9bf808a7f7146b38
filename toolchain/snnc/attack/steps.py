"""FGSM and PGD against any differentiable classifier, within an L-infinity ball.

The ball is around the float image: |x' - x| <= eps for every pixel (exactly, also after
rounding to the image's own precision), and x' stays in [0, 1]. An attack looks at the
clean image, at every iterate and at the last one, and keeps for each sample the worst it
saw: an image that the judge misnames before one that it does not, then the larger loss.
So robust accuracy never exceeds clean accuracy, and epsilon 0 gives clean accuracy.

An attack changes nothing: not the images, not the classifier, not torch's global random
state. Randomness comes from the generator it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.errors import InvalidSetting, SnncError, unreachable

Classifier = Callable[[Tensor], Tensor]  # images (N, *shape) -> logits (N, classes)
Judge = Callable[[Tensor], Tensor]  # images (N, *shape) -> classes (N,)

REACH = 2.5  # PGD's steps together reach 2.5 eps: Madry et al., ICLR 2018, and both papers
BATCH = 256  # samples attacked at once


class AttackFailed(SnncError):
    """The attack cannot tell anything: no gradient, or logits that are not numbers."""


@dataclass(frozen=True, kw_only=True)
class Fgsm:
    """One step of size eps along the sign of the gradient (Goodfellow et al., ICLR 2015)."""

    eps: float

    def __post_init__(self) -> None:
        _check_eps(self.eps)


@dataclass(frozen=True, kw_only=True)
class Pgd:
    """Projected gradient ascent along the sign of the gradient (Madry et al., ICLR 2018).

    A step is reach * eps / steps long. Each restart begins at a uniformly random point of
    the ball (or, without `random_start`, at the image, and then there is only one).
    """

    eps: float
    steps: int
    restarts: int = 1
    reach: float = REACH
    random_start: bool = True

    def __post_init__(self) -> None:
        _check_eps(self.eps)
        for name, least in (("steps", 1), ("restarts", 1)):
            if getattr(self, name) < least:
                raise InvalidSetting(f"{name} is {getattr(self, name)}; use {least} or more")
        if not 0 < self.reach < float("inf"):
            raise InvalidSetting(f"reach is {self.reach}; steps need a positive length")
        if self.restarts > 1 and not self.random_start:
            raise InvalidSetting(
                f"{self.restarts} restarts without a random start repeat the first; "
                "use restarts=1 or random_start=True"
            )

    @property
    def step_size(self) -> float:
        """The length of one step, in units of the image."""
        return self.reach * self.eps / self.steps


Attack = Fgsm | Pgd


def at(attack: Attack, eps: float) -> Attack:
    """Return the same attack at another epsilon.

    >>> at(Pgd(eps=0.1, steps=10), 0.2).eps
    0.2
    """
    return replace(attack, eps=eps)


def describe(attack: Attack) -> dict[str, object]:
    """Return what was run as JSON, without epsilon.

    >>> describe(Pgd(eps=0.1, steps=20))["step_size"]
    '2.5 * eps / steps'
    """
    match attack:
        case Fgsm():
            return {"name": "fgsm", "steps": 1, "restarts": 1, "step_size": "eps"}
        case Pgd():
            return {
                "name": "pgd",
                "steps": attack.steps,
                "restarts": attack.restarts,
                "step_size": f"{attack.reach:g} * eps / steps",
                "random_start": attack.random_start,
            }
        case _:
            unreachable(attack)


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """The worst image found for each sample, and what the judge named it."""

    images: Tensor  # (N, *shape), inside the ball and the box
    labels: Tensor  # (N,)
    predictions: Tensor  # (N,), the judge's classes for these very images
    losses: Tensor  # (N,), of the classifier that gave the gradient

    @property
    def broken(self) -> Tensor:
        """Whether each sample is misclassified, (N,)."""
        return self.predictions != self.labels


def worst(first: Examples, second: Examples) -> Examples:
    """Return, for each sample, the worse for the defender; `first` where they are equal."""
    better = (second.broken & ~first.broken) | (
        (second.broken == first.broken) & (second.losses > first.losses)
    )
    return select(better, second, first)


def select(condition: Tensor, first: Examples, second: Examples) -> Examples:
    """Return `first` where the condition (N,) holds, else `second`."""
    wide = condition.reshape(-1, *[1] * (first.images.dim() - 1))
    return Examples(
        images=torch.where(wide, first.images, second.images),
        labels=first.labels,
        predictions=torch.where(condition, first.predictions, second.predictions),
        losses=torch.where(condition, first.losses, second.losses),
    )


def craft(
    attack: Attack,
    sources: Sequence[Classifier],
    images: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    judge: Judge | None = None,
    batch: int = BATCH,
) -> Examples:
    """Attack images (N, *shape) in [0, 1] with labels (N,); return the worst examples.

    Each source gives logits and gradients; they must be the same network seen through
    different gradients, so that their losses compare. The first source attacks every sample;
    every later source and restart attacks those that still stand, and the worst case of
    all counts. Success is decided by the judge at every iterate; without one, by the
    largest logit of the source.

    The loss is cross-entropy. It saturates when logits are large: integer logits of size
    1e3 leave most samples with a gradient of exactly zero. Wrap such a network in
    `unit_magnitude` first.

    Raises:
        InvalidSetting: images outside [0, 1], labels that do not fit, no source, or a
            module in training mode.
        AttackFailed: a source has no gradient, or it or its logits are not finite.
    """
    _check_inputs(sources, images, labels)
    parts = [
        _craft_batch(attack, sources, x, y, generator, judge)
        for x, y in zip(torch.split(images, batch), torch.split(labels, batch), strict=True)
    ]
    return Examples(
        **{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Examples)}
    )


def unit_magnitude(classifier: Classifier) -> Classifier:
    """Divide each sample's logits by their mean magnitude, held constant in the gradient.

    The order of the logits is untouched and cross-entropy no longer saturates, whatever
    the units of the logits. Each sample has its own scale, so that its result does not
    depend on its neighbours in the batch.
    """

    def rescaled(images: Tensor) -> Tensor:
        logits = classifier(images)
        scale = logits.detach().abs().mean(dim=1, keepdim=True)
        return logits / torch.where(scale > 0, scale, torch.ones_like(scale))

    return rescaled


def ball(images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the least and the largest admissible image.

    In the precision of the images, x + eps may round to a point outside the ball; such a
    bound is moved to the next representable number towards x.
    """
    exact = images.double()
    bounds = []
    for side in (-eps, eps):
        bound = (exact + side).clamp(0, 1).to(images.dtype)
        outside = (bound.double() - exact).abs() > eps
        bounds.append(torch.where(outside, torch.nextafter(bound, images), bound))
    return bounds[0], bounds[1]


def random_point(images: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """Return a uniformly random point of each image's ball, moved into the box."""
    uniform = torch.rand(
        images.shape, generator=generator, device=generator.device, dtype=images.dtype
    )
    low, high = ball(images, eps)
    return (images + eps * (2 * uniform - 1).to(images.device)).clamp(low, high)


def _craft_batch(
    attack: Attack,
    sources: Sequence[Classifier],
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    judge: Judge | None,
) -> Examples:
    plan = _plan(attack)
    best: Examples | None = None
    for source in sources:
        for _ in range(plan.restarts):
            if best is None:
                best = _ascend(plan, source, images, labels, generator, judge)
                continue
            standing = (~best.broken).nonzero().squeeze(1)
            if len(standing) == 0:
                return best
            found = _ascend(plan, source, images[standing], labels[standing], generator, judge)
            best = worst(best, _scatter(found, standing, best))
    assert best is not None  # noqa: S101 - `_check_inputs` made sure of a source
    return best


def _scatter(found: Examples, where: Tensor, background: Examples) -> Examples:
    """Return the background with the found examples at positions `where`."""
    return Examples(
        images=background.images.index_copy(0, where, found.images),
        labels=background.labels,
        predictions=background.predictions.index_copy(0, where, found.predictions),
        losses=background.losses.index_copy(0, where, found.losses),
    )


def _plan(attack: Attack) -> Pgd:
    """FGSM is PGD with one full step from the image itself."""
    match attack:
        case Fgsm(eps=eps):
            return Pgd(eps=eps, steps=1, reach=1.0, random_start=False)
        case Pgd():
            return attack
        case _:
            unreachable(attack)


def _ascend(
    plan: Pgd,
    source: Classifier,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    judge: Judge | None,
) -> Examples:
    """Run one restart; return the worst of the clean image and all iterates."""
    if plan.eps == 0:
        return _look(source, images, labels, judge)
    low, high = ball(images, plan.eps)
    x = images
    if plan.random_start:
        best = _look(source, images, labels, judge)
        x = random_point(images, plan.eps, generator)
        here, gradient = _probe(source, x, labels, judge)
        best = worst(best, here)
    else:
        best, gradient = _probe(source, x, labels, judge)
    for step in range(1, plan.steps + 1):
        x = (x + plan.step_size * gradient.sign()).clamp(low, high)
        if step < plan.steps:
            here, gradient = _probe(source, x, labels, judge)
        else:
            here = _look(source, x, labels, judge)
        best = worst(best, here)
    return best


def input_gradient(source: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of each sample's loss by its image, (N, *shape)."""
    return _differentiate(source, images, labels)[2]


def _probe(
    source: Classifier, images: Tensor, labels: Tensor, judge: Judge | None
) -> tuple[Examples, Tensor]:
    logits, losses, gradient = _differentiate(source, images, labels)
    return _examples(images, labels, logits, losses, judge), gradient


def _look(source: Classifier, images: Tensor, labels: Tensor, judge: Judge | None) -> Examples:
    with torch.no_grad():
        logits = source(images)
        losses = F.cross_entropy(logits, labels, reduction="none")
    return _examples(images, labels, logits, losses, judge)


def _examples(
    images: Tensor, labels: Tensor, logits: Tensor, losses: Tensor, judge: Judge | None
) -> Examples:
    if not losses.isfinite().all():
        raise AttackFailed(
            "the network's logits are not finite on some images; an attack on them would "
            "report anything: repair the network"
        )
    predictions = logits.argmax(dim=1) if judge is None else judge(images)
    return Examples(images=images, labels=labels, predictions=predictions, losses=losses)


def _differentiate(
    source: Classifier, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, the loss of each sample, and its gradient by the image."""
    x = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = source(x)
        losses = F.cross_entropy(logits, labels, reduction="none")
        if not losses.requires_grad:
            raise AttackFailed(
                "the network's logits do not depend on the image in a way torch can "
                "differentiate; attack a differentiable twin and judge with the network"
            )
        (gradient,) = torch.autograd.grad(losses.sum(), x)
    if not gradient.isfinite().all():
        raise AttackFailed("the gradient by the image is not finite; repair the network")
    return logits.detach(), losses.detach(), gradient


def _check_eps(eps: float) -> None:
    if not 0 <= eps <= 1:
        raise InvalidSetting(
            f"eps is {eps}; use 0 to 1, in units of images in [0, 1] (8/255, not 8)"
        )


def _check_inputs(sources: Sequence[Classifier], images: Tensor, labels: Tensor) -> None:
    if not sources:
        raise InvalidSetting("no source of gradients; give at least one")
    if len(images) == 0 or labels.shape != (len(images),):
        raise InvalidSetting(
            f"{len(images)} images with labels of shape {tuple(labels.shape)}; "
            "give one label to each of at least one image"
        )
    if not (images.min() >= 0 and images.max() <= 1):  # NaN fails too
        raise InvalidSetting(
            f"pixels reach from {float(images.min()):g} to {float(images.max()):g}; "
            "attack images in [0, 1] and keep the normalisation inside the network"
        )
    for source in sources:
        if isinstance(source, nn.Module) and any(part.training for part in source.modules()):
            raise InvalidSetting(
                "the network is in training mode, which an attack would change; "
                "use snnc.attack.gradients.plain(network) or call eval() on it"
            )
