"""Adversarial finetuning of the spiking network: weights, batch norm and thresholds.

Source: Schmolli et al., CPAL 2025, equation 8 and algorithm 1, lines 17 to 33.
"""

from __future__ import annotations

import torch

from snnc.learn.prune import sparsity
from snnc.learn.spiking import mean_thresholds, spiking_copy
from snnc.learn.stage import Progress, State, TrainingData
from snnc.learn.train import Training, train


def finetune(
    state: State,
    settings: Training,
    data: TrainingData,
    generator: torch.Generator,
    progress: Progress,
) -> State:
    """Return the finetuned spiking network.

    All parameters learn, thresholds with them, by back-propagation through time and
    through the reset. A weight that is zero on the way in is exactly zero on the way out.

    Raises:
        InvalidSetting: the network does not spike.
        TrainingFailed: a loss is not finite.
    """
    spiking = State(network=spiking_copy(state.network, "finetune"))
    tuned = train(spiking, settings, data, generator, progress)
    network = spiking_copy(tuned.network, "finetune")
    return State(
        network=network,
        metrics={**tuned.metrics, **mean_thresholds(network), "sparsity": sparsity(network)},
    )
