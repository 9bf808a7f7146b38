"""The conversion stage: neurons for ReLUs, then thresholds, then batch statistics."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from snnc.ir.graph import Granularity, Reset
from snnc.learn.adapt import Adapt, adapt
from snnc.learn.balance import Balance, balance
from snnc.learn.settings import Count, Positive, Settings
from snnc.learn.spiking import SpikingNetwork, to_spiking
from snnc.learn.stage import Progress, State, TrainingData
from snnc.learn.surrogates import Shape, Surrogate


class Convert(Settings):
    """What the neurons are, and how their thresholds and batch statistics are found."""

    steps: Count  # T
    reset: Literal["zero", "subtract"]
    keep: Annotated[float, Field(gt=0, le=1)]  # 1 is the IF neuron
    granularity: Literal["layer", "channel", "neuron"]
    surrogate: Shape
    width: Positive  # of the surrogate
    balance: Balance
    adapt: Adapt


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


def convert(
    state: State,
    settings: Convert,
    data: TrainingData,
    generator: torch.Generator,
    progress: Progress,
) -> State:
    """Return the spiking network of a ReLU network, balanced and adapted, not yet finetuned.

    It is not meant to be accurate: balanced thresholds are scaled down on purpose, and
    accuracy comes from finetuning.

    Raises:
        Unsupported: the network cannot be traced, or has no ReLU.
    """
    network = spiking(state.network, settings, tuple(data.train.images.shape[1:]))
    balanced = balance(State(network=network), settings.balance, data, generator, progress)
    adapted = adapt(balanced, settings.adapt, data, generator, progress)
    return State(network=adapted.network, metrics={**balanced.metrics, **adapted.metrics})
