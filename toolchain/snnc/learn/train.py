"""The training loop, and the stage that makes the dense (robust) ReLU network."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import cos, inf, pi

import torch
from torch import Tensor, nn

from snnc.errors import TrainingFailed
from snnc.learn.neurons import raise_to_floor
from snnc.learn.objectives import Objective, loss
from snnc.learn.prune import apply_masks, nonzero_masks
from snnc.learn.prune.masks import Masks
from snnc.learn.settings import Count, NotNegative, Positive, Settings
from snnc.learn.stage import (
    Advance,
    Progress,
    Samples,
    State,
    TrainingData,
    accuracy,
    batches,
    in_order,
)
from snnc.learn.views import eval_view


class Training(Settings):
    """How to minimise an objective: SGD with momentum, a cosine from `rate` down to 0."""

    epochs: Count
    batch: Count
    rate: Positive
    momentum: NotNegative
    decay: NotNegative  # weight decay, on every trainable parameter
    validate_every: Count  # epochs between looks at the validation split
    objective: Objective


@dataclass(frozen=True)
class _Best:
    """The network as it was when the validation loss was lowest."""

    loss: float
    epoch: int
    state: dict[str, Tensor]


def train(
    state: State,
    settings: Training,
    data: TrainingData,
    generator: torch.Generator,
    progress: Progress,
) -> State:
    """Return the network after training; zero weights stay exactly zero.

    One function serves the dense network, the pruned one and the spiking one: the mask is
    M = 1[W != 0] of the network that comes in, which is all ones before pruning. Of the
    epochs that are validated (every `validate_every`-th and the last), the one with the
    lowest loss on the validation split is returned.

    Raises:
        TrainingFailed: a loss is not finite; the text names the batch and the layer.
    """
    network = copy.deepcopy(state.network)
    masks = nonzero_masks(network)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=settings.rate,
        momentum=settings.momentum,
        weight_decay=settings.decay,
    )
    best = _Best(inf, 0, {})
    steps = -(-len(data.train) // settings.batch)
    for epoch in range(settings.epochs):
        network.train()
        total = 0.0
        for number, batch in enumerate(batches(data.train, settings.batch, generator)):
            done = (epoch + number / steps) / settings.epochs
            optimizer.param_groups[0]["lr"] = settings.rate * (1 + cos(pi * done)) / 2
            place = f"epoch {epoch + 1}, batch {number + 1}"
            total += train_step(network, optimizer, masks, settings, batch, generator, place)
        progress(Advance(work="epochs", done=epoch + 1, total=settings.epochs, loss=total / steps))
        if (epoch + 1) % settings.validate_every == 0 or epoch + 1 == settings.epochs:
            seen = validation_loss(network, settings, data.validation)
            if seen <= best.loss:
                best = _Best(seen, epoch + 1, copy.deepcopy(network.state_dict()))
    if not best.state:
        raise TrainingFailed("the validation loss was never a number; lower the rate")
    network.load_state_dict(best.state)
    network.eval()
    return State(
        network=network,
        metrics={
            "validation_accuracy": accuracy(network, data.validation),
            "validation_loss": best.loss,
            "epoch": float(best.epoch),
        },
    )


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    masks: Masks,
    settings: Training,
    batch: Samples,
    generator: torch.Generator,
    place: str,
) -> float:
    """Take one step in place and return the loss before it.

    Masked weights are zero afterwards, and no threshold is below the floor (below it, its
    gradient would vanish and it could never come back).

    Raises:
        TrainingFailed: the loss is not finite; the weights are not changed.
    """
    optimizer.zero_grad()
    value = loss(settings.objective, network, batch.images, batch.labels, generator)
    if not torch.isfinite(value):
        raise TrainingFailed(
            f"{place}: the loss is {value.detach():g}; {first_not_finite(network, batch.images)}; "
            "lower the rate"
        )
    torch.autograd.backward(value)
    optimizer.step()
    apply_masks(network, masks)
    raise_to_floor(network)
    return float(value.detach())


def validation_loss(network: nn.Module, settings: Training, validation: Samples) -> float:
    """Return the objective's mean over the validation split, in eval mode.

    The adversary's draws are the same at every call, so epochs compare fairly and the
    training's own random stream does not depend on how often it is validated.
    """
    generator = torch.Generator(validation.images.device).manual_seed(0)
    frozen = eval_view(network)
    total = 0.0
    for part in in_order(validation, settings.batch):
        value = loss(settings.objective, frozen, part.images, part.labels, generator)
        total += float(value.detach()) * len(part)
    return total / len(validation)


@torch.no_grad()
def first_not_finite(network: nn.Module, images: Tensor) -> str:
    """Say which layer is the first to hold or to return something that is not finite."""
    for name, parameter in network.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"layer {name.rpartition('.')[0]} has a {name.rpartition('.')[2]} not finite"
    found: list[str] = []
    watched = eval_view(network)
    for name, module in watched.named_modules():
        if not list(module.children()):
            module._forward_hooks = module._forward_hooks.copy()
            module.register_forward_hook(
                lambda _m, _x, y, name=name: None if torch.isfinite(y).all() else found.append(name)
            )
    watched(images)
    return (
        f"layer {found[0]} is the first whose output is not finite"
        if found
        else ("every layer's output is finite on the clean images")
    )
