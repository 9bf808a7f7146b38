"""Where an attacker's gradients come from, as data.

A spike has no derivative; an estimator says what stands in for it. The network is always
the same one: estimators change the backward pass and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from snnc.attack.steps import Classifier, unit_magnitude
from snnc.ir.program import Program
from snnc.learn.neurons import Fire, expand, merge
from snnc.learn.spiking import SpikingNetwork, view
from snnc.learn.surrogates import TRIANGLE, Surrogate
from snnc.learn.views import eval_view
from snnc.twin import IntegerTwin


@dataclass(frozen=True)
class ThroughTime:
    """Backpropagate through time with a surrogate derivative for the spike."""

    surrogate: Surrogate

    def __str__(self) -> str:
        return f"{self.surrogate.shape} {self.surrogate.width:g}"


Estimator = ThroughTime

# The two strongest single members of the ensemble of 19 (Schmolli et al., CPAL 2025, table
# A1: FGSM at 8/255 on a 90 % sparse VGG-16; 50.4 and 54.8 % of samples survive them, 41.1 %
# the whole ensemble). They are a quick look, not a worst case.
QUICK: tuple[Estimator, ...] = (
    ThroughTime(TRIANGLE),
    ThroughTime(Surrogate("exp_damped", 2.0)),
)


def plain(network: nn.Module) -> tuple[Classifier]:
    """Return a network with its true gradients, in eval mode; the network is untouched."""
    return (eval_view(network),)


def spiking(
    network: SpikingNetwork, estimators: Sequence[Estimator] = QUICK
) -> tuple[Classifier, ...]:
    """Return the network in eval mode, once for each estimator; the network is untouched."""
    return tuple(view(network, surrogate=e.surrogate) for e in estimators)


def through_rate(network: SpikingNetwork) -> SpikingNetwork:
    """Return the network in eval mode, differentiated by firing rates instead of through time.

    Forward, every layer is its own `Fire`, bit for bit. Backward, a neuron passes on the
    gradient of its spikes to its current of the same step if it spiked at all in the T
    steps, and nothing if it did not:

        dL/dI(t) = dL/do(t) [ mean_t o(t) > 0 ]

    No gradient reaches the thresholds. The network is untouched. Source: "BPTR" in
    RobustSNNConversion, the 18th member of its ensemble (Schmolli et al., CPAL 2025, A.3).
    """
    copied = eval_view(network)
    for name, fire in copied.fires.items():
        copied.body.set_submodule(name, _ByRate(fire))
    return copied.eval()


def twins(program: Program, estimators: Sequence[Estimator] = QUICK) -> tuple[Classifier, ...]:
    """Return the program's exact twin, once for each estimator, its logits of unit magnitude."""
    return tuple(unit_magnitude(IntegerTwin(program, e.surrogate)) for e in estimators)


class _ByRate(nn.Module):
    """A spiking layer whose backward pass sees only which neurons spiked."""

    def __init__(self, fire: Fire) -> None:
        super().__init__()
        self.fire = fire

    def forward(self, current: Tensor) -> Tensor:
        spikes: Tensor = _PassWhereSpiked.apply(current, self.fire)  # type: ignore[no-untyped-call]
        return spikes


class _Context(FunctionCtx):
    """What the backward pass needs to know."""

    steps: int
    saved_tensors: tuple[Tensor, ...]


class _PassWhereSpiked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, current: Tensor, fire: Fire) -> Tensor:
        spikes: Tensor = fire(current)
        ctx.steps = fire.steps
        ctx.save_for_backward(expand(spikes, fire.steps).amax(0))
        return spikes

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor, None]:
        (spiked,) = ctx.saved_tensors
        return merge(expand(gradients[0], ctx.steps) * spiked), None
