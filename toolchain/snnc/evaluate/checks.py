"""Signs that a gradient attack failed for want of gradients, not of adversarial examples.

A defence that hides its gradients looks robust (Athalye et al., ICML 2018; Carlini et al.,
arXiv 1902.06705; Pintor et al., NeurIPS 2022). Each check measures one symptom and compares
it with a limit. None of them proves robustness: no flag means "no sign of masking found".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snnc.attack.steps import (
    BATCH,
    Attack,
    Classifier,
    Fgsm,
    Judge,
    Pgd,
    at,
    ball,
    craft,
    input_gradient,
    random_point,
)
from snnc.errors import InvalidSetting

ZERO_GRADIENT = 0.01  # share of samples; honest networks have none
ONE_STEP = 0.002  # accuracy by which one step may beat many
UNBOUNDED = 0.005  # accuracy above chance that an unbounded attack may leave
DRAWS = 300  # random corners for each sample


@dataclass(frozen=True, kw_only=True)
class Check:
    """One symptom: what honest networks show, what was measured, and whether it is off."""

    name: str
    claim: str
    flagged: bool
    numbers: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """Return the check as JSON."""
        return {
            "name": self.name,
            "claim": self.claim,
            "flagged": self.flagged,
            "numbers": dict(self.numbers),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is checked: gradient sources of one network, samples, and who decides success.

    Without a judge, the largest logit of the first source decides.
    """

    sources: Sequence[Classifier]
    images: Tensor  # (N, *shape) in [0, 1]
    labels: Tensor  # (N,)
    judge: Judge | None = None
    batch: int = BATCH

    def predict(self, images: Tensor) -> Tensor:
        """Return the classes (N,) that decide success."""
        if self.judge is not None:
            return self.judge(images)
        with torch.no_grad():
            return torch.cat(
                [self.sources[0](x).argmax(dim=1) for x in torch.split(images, self.batch)]
            )

    def accuracy(self, attack: Attack, generator: torch.Generator) -> float:
        """Return the share of samples that an attack leaves standing."""
        found = craft(
            attack,
            self.sources,
            self.images,
            self.labels,
            generator=generator,
            judge=self.judge,
            batch=self.batch,
        )
        return _share(~found.broken)


def masking_checks(
    subject: Subject, *, attack: Pgd, generator: torch.Generator, draws: int = DRAWS
) -> tuple[Check, ...]:
    """Run every check around one attack; the attack itself is run once more for comparison.

    Raises:
        InvalidSetting: epsilon is 0, fewer than 2 steps, or no draws: nothing to compare.
    """
    if attack.eps == 0 or attack.steps < 2 or draws < 1:
        raise InvalidSetting(
            f"eps {attack.eps:g}, {attack.steps} steps, {draws} draws leave nothing to compare; "
            "check an attack of several steps at a positive eps with at least one draw"
        )
    robust = subject.accuracy(attack, generator)
    return (
        zero_gradient(subject, eps=attack.eps, generator=generator),
        one_step(subject, robust, eps=attack.eps, generator=generator),
        unbounded(subject, attack=attack, generator=generator),
        random_noise(subject, robust, eps=attack.eps, draws=draws, generator=generator),
    )


def zero_gradient(subject: Subject, *, eps: float, generator: torch.Generator) -> Check:
    """Measure, for each source, the samples whose gradient is zero in every pixel.

    Measured at the image and at a random point of the ball. A sample that starts there
    cannot be moved by that source.
    """
    start = random_point(subject.images, eps, generator)
    numbers = {}
    for i, source in enumerate(subject.sources):
        for place, images in (("image", subject.images), ("random_start", start)):
            zero = [
                (input_gradient(source, x, y) == 0).flatten(1).all(dim=1)
                for x, y in zip(
                    torch.split(images, subject.batch),
                    torch.split(subject.labels, subject.batch),
                    strict=True,
                )
            ]
            numbers[f"source_{i}_{place}"] = _share(torch.cat(zero))
    return Check(
        name="zero-gradient",
        claim=f"at most {ZERO_GRADIENT:.0%} of samples have a gradient of zero",
        flagged=max(numbers.values()) > ZERO_GRADIENT,
        numbers=numbers,
    )


def one_step(subject: Subject, robust: float, *, eps: float, generator: torch.Generator) -> Check:
    """Compare one step with the attack of several steps that left `robust` standing."""
    single = subject.accuracy(Fgsm(eps=eps), generator)
    return Check(
        name="one-step",
        claim="one step does not beat many",
        flagged=single < robust - ONE_STEP,
        numbers={"one_step": single, "many_steps": robust},
    )


def unbounded(subject: Subject, *, attack: Pgd, generator: torch.Generator) -> Check:
    """Attack with eps = 1, where any image may become any other: nothing can be robust."""
    with torch.no_grad():
        classes = subject.sources[0](subject.images[:1]).shape[1]
    left = subject.accuracy(at(attack, 1.0), generator)
    return Check(
        name="unbounded",
        claim=f"an unbounded attack leaves at most chance + {UNBOUNDED:.1%}",
        flagged=left > 1 / classes + UNBOUNDED,
        numbers={"accuracy": left, "chance": 1 / classes},
    )


def random_noise(
    subject: Subject, robust: float, *, eps: float, draws: int, generator: torch.Generator
) -> Check:
    """Compare random corners of the ball with the attack that left `robust` standing."""
    low, high = ball(subject.images, eps)
    standing = subject.predict(subject.images) == subject.labels
    for _ in range(draws):
        coin = torch.rand(low.shape, generator=generator, device=generator.device) < 0.5
        corner = torch.where(coin.to(low.device), low, high)
        standing &= subject.predict(corner) == subject.labels
    left = _share(standing)
    return Check(
        name="random-noise",
        claim="random noise does not beat the gradient",
        flagged=left < robust,
        numbers={"random": left, "gradient": robust, "draws": draws},
    )


def _share(outcomes: Tensor) -> float:
    return float(outcomes.double().mean())
