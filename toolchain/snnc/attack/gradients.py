"""Where an attacker's gradients come from, as data.

A spike has no derivative; an estimator says what stands in for it. The network is always
the same one: estimators change the backward pass and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from snnc.attack.steps import Classifier, unit_magnitude
from snnc.ir.program import Program
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


def twins(program: Program, estimators: Sequence[Estimator] = QUICK) -> tuple[Classifier, ...]:
    """Return the program's exact twin, once for each estimator, its logits of unit magnitude."""
    return tuple(unit_magnitude(IntegerTwin(program, e.surrogate)) for e in estimators)
