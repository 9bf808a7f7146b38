"""The pruning stage: choose which weights stay. What is left may be trained afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snnc.errors import Issue, Refusal, unreachable
from snnc.learn.prune.counts import emptied, kept, layer_of
from snnc.learn.prune.harp import Harp, harp
from snnc.learn.prune.hydra import Hydra, hydra
from snnc.learn.prune.magnitude import Magnitude, magnitude_masks
from snnc.learn.prune.masks import masked_copy, prunable, sparsity_metrics
from snnc.learn.prune.random import Random, random_masks
from snnc.learn.stage import Context, State, TrainingData

if TYPE_CHECKING:
    from snnc.learn.convert import Convert  # which imports this package

Pruner = Magnitude | Random | Hydra | Harp
Prune = Annotated[Pruner, Field(discriminator="method")]


def choose(
    state: State, settings: Pruner, data: TrainingData, context: Context, convert: Convert
) -> State:
    """Return a copy whose zeros are the mask; weights that stay keep their values, bit by bit.

    Metrics: `sparsity`, over all prunable weights, and `kept.<layer>`, the share of each
    layer that stays; and what the pruner itself measured. `convert` describes the spiking
    network whose events a budget counts; no other pruner looks at it.

    Raises:
        Refusal: a layer would lose all its weights, or what the pruner cannot work with;
            every such layer is named.
        TrainingFailed: a loss is not finite, or a budget was never met.
    """
    check(state.network, settings, convert)
    match settings:
        case Magnitude():
            masks = magnitude_masks(state.network, settings)
            chosen = State(network=masked_copy(state.network, masks, sparsity=settings.sparsity))
        case Random():
            masks = random_masks(state.network, settings, context)
            chosen = State(network=masked_copy(state.network, masks, sparsity=settings.sparsity))
        case Hydra():
            chosen = hydra(state, settings, data, context)
        case Harp():
            chosen = harp(state, settings, data, context, convert)
        case _:
            unreachable(settings)
    return State(
        network=chosen.network, metrics={**sparsity_metrics(chosen.network), **chosen.metrics}
    )


def check(network: nn.Module, settings: Pruner, convert: Convert | None = None) -> None:
    """Refuse what cannot be pruned so, whatever the values of the weights will be.

    Without `convert`, what a budget of events needs of it is not looked at.

    Raises:
        Refusal: there are no weights to prune, a layer would keep none, a rate would start
            outside its range, or the spiking network would have no events to count; all of
            it is listed.
    """
    issues = _issues(prunable(network), settings)
    if convert is not None and isinstance(settings, Harp) and settings.budget == "events":
        issues += _uncountable(network, convert)
    if issues:
        raise Refusal(f"cannot prune {type(network).__name__}", issues)


def _issues(weights: Mapping[str, Tensor], settings: Pruner) -> list[Issue]:
    if not weights:
        problem, remedy = "no layer has weights to prune", "use convolutions or linear layers"
        return [Issue("the network", problem, remedy, "no-weights")]
    match settings:
        case Magnitude(scope="global"):
            return _too_few_for_all(weights, settings.sparsity)
        case Magnitude() | Random() | Hydra():
            return emptied(weights, settings.sparsity)
        case Harp():
            return [*_start(settings), *emptied(weights, 1 - settings.least_rate)]
        case _:
            unreachable(settings)


def _too_few_for_all(weights: Mapping[str, Tensor], sparsity: float) -> list[Issue]:
    """Return an issue if not even one weight for each layer would stay."""
    total = sum(weight.numel() for weight in weights.values())
    left = kept(total, sparsity)
    if left >= len(weights):
        return []
    problem = f"sparsity {sparsity:g} leaves {left} of {total} weights for {len(weights)} layers"
    names = ", ".join(layer_of(name) for name in weights)
    return [Issue(names, problem, "lower the sparsity or widen the layers", "empty-layer")]


def _start(settings: Harp) -> list[Issue]:
    if settings.start > settings.least_rate:
        return []
    least = settings.least_rate
    problem = f"start is {settings.start:g}, not above least x (1 - sparsity) = {least:g}"
    return [Issue("every layer", problem, "raise start or lower least", "rate-start")]


def _uncountable(network: nn.Module, convert: Convert) -> list[Issue]:
    """Return why the spiking network's spikes would say nothing about this network."""
    issues = []
    if convert.restart:
        issues.append(
            Issue(
                "convert.restart",
                "draws every weight anew, so there are no events of these weights to count",
                'leave it false, or take budget = "weights"',
                "events-restart",
            )
        )
    wiped = convert.balance is not None and convert.adapt is None
    if wiped and any(isinstance(module, _BatchNorm) for module in network.modules()):
        issues.append(
            Issue(
                "convert.adapt",
                "is missing, and balancing leaves batch norm without the statistics that deep "
                "layers need to spike",
                'add it, or take budget = "weights"',
                "events-adapt",
            )
        )
    return issues
