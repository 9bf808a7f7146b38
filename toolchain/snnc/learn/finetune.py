"""Training the spiking network itself: weights, batch norm and thresholds.

After a conversion this is the papers' adversarial finetuning (Schmolli et al., CPAL 2025,
equation 8 and algorithm 1, lines 17 to 33); from untrained weights it is their end-to-end
baseline. Which adversary trains it is the objective's choice.
"""

from __future__ import annotations

from snnc.learn.fit import Training
from snnc.learn.prune.masks import sparsity
from snnc.learn.spiking import mean_thresholds, spiking_copy
from snnc.learn.stage import Context, State, TrainingData
from snnc.learn.train import train


def finetune(
    state: State,
    settings: Training,
    data: TrainingData,
    context: Context,
    *,
    learn_thresholds: bool,
) -> State:
    """Return the finetuned spiking network.

    All parameters learn, by back-propagation through time and through the reset; thresholds
    only if `learn_thresholds`. A weight that is zero on the way in is exactly zero on the
    way out.

    Raises:
        InvalidSetting: the network does not spike.
        TrainingFailed: a loss is not finite.
    """
    network = spiking_copy(state.network, "finetune")
    for fire in network.fires.values():
        fire.threshold.requires_grad_(learn_thresholds)
    tuned = train(State(network=network), settings, data, context)
    network = spiking_copy(tuned.network, "finetune")
    return State(
        network=network,
        metrics={**tuned.metrics, **mean_thresholds(network), "sparsity": sparsity(network)},
    )
