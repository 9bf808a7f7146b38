"""Training all parameters of a network under its mask: dense, pruned or spiking."""

from __future__ import annotations

import copy

from torch import nn

from snnc.learn.fit import Subject, Training, fit
from snnc.learn.neurons import raise_to_floor
from snnc.learn.prune.masks import Masks, apply_masks, nonzero_masks
from snnc.learn.stage import Context, State, TrainingData, accuracy


def train(state: State, settings: Training, data: TrainingData, context: Context) -> State:
    """Return the network after training; zero weights stay exactly zero.

    One function serves the dense network, the pruned one and the spiking one: the mask is
    M = 1[W != 0] of the network that comes in, which is all ones before pruning.

    Raises:
        TrainingFailed: a loss is not finite; the text names the batch and the layer.
    """
    network = copy.deepcopy(state.network)
    context.machine.synchronise(network)  # so that all take the same mask
    metrics = fit(whole(network, nonzero_masks(network)), settings, data, context)
    return State(
        network=network,
        metrics={"validation_accuracy": accuracy(network, data.validation), **metrics},
    )


def whole(network: nn.Module, masks: Masks) -> Subject:
    """Return the fit of every parameter that requires a gradient, in place.

    After every step masked weights are zero, and no threshold is below the floor (below it
    its gradient would vanish and it could never come back).
    """

    def restore() -> None:
        apply_masks(network, masks)
        raise_to_floor(network)

    return Subject(
        network=network,
        parameters=tuple(p for p in network.parameters() if p.requires_grad),
        penalty=None,
        after_step=restore,
        acceptable=lambda: True,
    )
