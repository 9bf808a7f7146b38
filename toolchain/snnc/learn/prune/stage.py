"""The pruning stage: choose a mask, then finetune the weights that survive it."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from snnc.learn.prune.magnitude import prune
from snnc.learn.prune.masks import sparsity
from snnc.learn.settings import Settings
from snnc.learn.stage import Progress, State, TrainingData
from snnc.learn.train import Training, train


class Prune(Settings):
    """How many weights go, by which rule, and how the rest are finetuned."""

    method: Literal["magnitude"]
    sparsity: Annotated[float, Field(ge=0, lt=1)]
    finetune: Training


def prune_and_finetune(
    state: State,
    settings: Prune,
    data: TrainingData,
    generator: torch.Generator,
    progress: Progress,
) -> State:
    """Return the pruned ReLU network, its surviving weights finetuned under the mask.

    Raises:
        Refusal: a layer would lose all its weights.
        TrainingFailed: a loss is not finite.
    """
    pruned = State(network=prune(state.network, sparsity=settings.sparsity))
    finetuned = train(pruned, settings.finetune, data, generator, progress)
    return State(
        network=finetuned.network,
        metrics={**finetuned.metrics, "sparsity": sparsity(finetuned.network)},
    )
