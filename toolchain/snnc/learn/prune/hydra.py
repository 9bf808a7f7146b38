"""HYDRA: scores learned against the adversary, the same sparsity in every layer.

Source: Sehwag et al., NeurIPS 2020; Schmolli et al., CPAL 2025, equation 7 ("uniform").
"""

from __future__ import annotations

import copy
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from snnc.learn.fit import Subject, Training, fit
from snnc.learn.prune.masks import prunable
from snnc.learn.prune.scores import masked_network, score, trainable
from snnc.learn.settings import Settings
from snnc.learn.stage import Context, State, TrainingData


class Hydra(Settings):
    """Prune by learned scores, the same share of every layer."""

    method: Literal["hydra"] = "hydra"
    sparsity: Annotated[float, Field(ge=0, lt=1)]
    scores: Training  # of the scores; HYDRA: SGD 0.1, momentum 0.9, decay 1e-4, 20 epochs
    finetune: Training | None = None


def hydra(state: State, settings: Hydra, data: TrainingData, context: Context) -> State:
    """Return the network under the mask of its best scores; weights keep their values.

    Batch norm learns along with the scores. Metrics are those of the fit, as `scores.*`.

    Raises:
        Refusal: a layer's weights are all zero.
        TrainingFailed: a loss is not finite.
    """
    subject = scored_copy(state.network, settings)
    metrics = fit(subject, settings.scores, data, context)
    return State(
        network=masked_network(subject.network, like=state.network),
        metrics={f"scores.{name}": value for name, value in metrics.items()},
    )


def scored_copy(network: nn.Module, settings: Hydra) -> Subject:
    """Return what the fit moves: the scores and batch norm of a copy of the network."""
    scored = copy.deepcopy(network)
    score(scored, dict.fromkeys(prunable(scored), settings.sparsity))
    return Subject(
        network=scored,
        parameters=trainable(scored),
        penalty=None,
        after_step=lambda: None,  # weights are frozen, masks are functions of the scores
        acceptable=lambda: True,
    )
