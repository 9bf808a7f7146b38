"""The conversion stage: neurons for ReLUs, then thresholds, then batch statistics."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from snnc.ir.graph import Granularity, Reset
from snnc.learn.adapt import Adapt, adapt
from snnc.learn.balance import Balance, balance
from snnc.learn.prune.masks import apply_masks, nonzero_masks
from snnc.learn.settings import Count, Positive, Settings
from snnc.learn.spiking import SpikingNetwork, to_spiking
from snnc.learn.stage import Context, State, TrainingData, accuracy
from snnc.learn.surrogates import Shape, Surrogate


class Convert(Settings):
    """What the neurons are, and how their thresholds and batch statistics are found."""

    steps: Count  # T
    reset: Literal["zero", "subtract"]
    keep: Annotated[float, Field(gt=0, le=1)]  # 1 is the IF neuron
    granularity: Literal["layer", "channel", "neuron"]
    surrogate: Shape
    width: Positive  # of the surrogate
    thresholds: Literal["learned", "fixed"]  # in the stages that follow
    restart: bool  # draw the weights anew, under the mask: end-to-end training starts so
    balance: Balance | None = None  # without it every threshold is 1
    adapt: Adapt | None = None  # without it batch norm keeps the ReLU network's statistics


def spiking(network: nn.Module, settings: Convert, input_shape: tuple[int, ...]) -> SpikingNetwork:
    """Return the spiking copy of a ReLU network, every threshold 1. Raises as `to_spiking`."""
    return to_spiking(
        network,
        input_shape=input_shape,
        steps=settings.steps,
        reset=Reset(settings.reset),
        keep=settings.keep,
        granularity=Granularity(settings.granularity),
        surrogate=Surrogate(settings.surrogate, settings.width),
    )


def convert(state: State, settings: Convert, data: TrainingData, context: Context) -> State:
    """Return the spiking network of a ReLU network, balanced and adapted, not yet finetuned.

    It is not meant to be accurate: balanced thresholds are scaled down on purpose, and
    accuracy comes from finetuning.

    Raises:
        Unsupported: the network cannot be traced, or has no ReLU.
    """
    shape = tuple(data.train.pixels.shape[1:])
    network: nn.Module = spiking(state.network, settings, shape).eval()
    if settings.restart:
        restart(network, context.generator("restart"))
    converted = State(network=network)
    metrics: dict[str, float] = {}
    if settings.balance is not None:
        converted = balance(converted, settings.balance, data, context.phase("balance"))
        metrics |= converted.metrics
    if settings.adapt is not None:
        converted = adapt(converted, settings.adapt, data, context.phase("adapt"))
    metrics["validation_accuracy"] = accuracy(converted.network, data.validation)
    return State(network=converted.network, metrics=metrics)


@torch.no_grad()
def restart(network: nn.Module, generator: torch.Generator) -> None:
    """Draw convolutions, linear layers and batch norms anew, in place; the mask stays.

    Weights are normal with standard deviation sqrt(2 / fan-in), fan-in counted over the
    mask, so that a sparse layer drives its neurons as strongly as a dense one (He et al.,
    ICCV 2015; Evci et al., AAAI 2022, for the sparse count). Biases are 0, batch norm is
    the identity.
    """
    masks = nonzero_masks(network)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            _redraw(module.weight, generator)
            if module.bias is not None:
                module.bias.zero_()
    apply_masks(network, masks)


def _redraw(weight: Tensor, generator: torch.Generator) -> None:
    living = (weight != 0).flatten(1).sum(1).clamp(min=1)  # fan-in of each output
    scale = (2 / living).sqrt().reshape(-1, *(1,) * (weight.dim() - 1))
    weight.normal_(generator=generator).mul_(scale)
