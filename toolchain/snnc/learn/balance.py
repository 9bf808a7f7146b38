"""Threshold balancing: each layer fires at a high percentile of what it is driven with.

Source: Schmolli et al., CPAL 2025, section 3.2 and algorithm 1; `find_threshold` of
RobustSNNConversion, whose residual blocks mix up two layers' maxima (not copied).
"""

from __future__ import annotations

from itertools import chain, count, islice

import torch
from torch import nn

from snnc.learn.calibration import Calibration
from snnc.learn.calibration_images import training_images
from snnc.learn.calibration_segments import BATCH_NORMS
from snnc.learn.neurons import THRESHOLD_FLOOR, raise_to_floor
from snnc.learn.settings import Count, Percent, Positive, Settings
from snnc.learn.spiking import SpikingNetwork, mean_thresholds, spiking_copy
from snnc.learn.stage import Advance, Context, State, TrainingData


class Balance(Settings):
    """How to calibrate; the papers use 100, 99.7, 0.3, 10 and 64."""

    steps: Count  # T_c, time steps of a calibration pass
    percentile: Percent  # rho
    scale: Positive  # lambda, multiplies every calibrated threshold
    batches: Count
    batch: Count


def balance(state: State, settings: Balance, data: TrainingData, context: Context) -> State:
    """Return the spiking network with balanced thresholds.

    Layers are set front to back. A threshold is the largest, over the batches, of the
    percentile of all input currents of the neurons that share it (negative ones included),
    while every layer before fires at its own calibrated, unscaled thresholds. Then all are
    multiplied by `scale`. A threshold per channel or per neuron gets a percentile of its
    own. No neuron runs below `THRESHOLD_FLOOR`, also during the passes: a percentile that
    is not positive, as of a neuron that is never excited, ends there, and the metric
    `thresholds_at_floor` is the share of thresholds that did.

    Percentiles are exact where the values above them fit in memory, as they do at the
    papers' settings; the metric `percentile_error` bounds their relative error (see
    `snnc.learn.percentile`). Batches are training images, varied as in training.

    During the passes batch norm uses the statistics of the calibration batch; afterwards
    its running statistics are wiped (mean 0, variance 1). Weights and the affine part of
    batch norm stay as they are, bit for bit.

    With direct coding a layer before any spike is driven by the same current at every
    step, so one step tells the same as T_c, and its value does not depend on T_c.

    Raises:
        InvalidSetting: the network does not spike, or the percentiles of so many thresholds
            need too much memory.
        TrainingFailed: a current is not finite.
    """
    network = spiking_copy(state.network, "balance")
    passes = (training_images(data, settings.batch, context, number) for number in count())
    images = list(islice(chain.from_iterable(passes), settings.batches))
    calibration = Calibration(network, images, steps=settings.steps)
    for done, (name, fire) in enumerate(network.fires.items(), start=1):
        fire.threshold.data.copy_(calibration.percentiles(name, settings.percentile))
        calibration.pass_on(name)
        advance = Advance(work="thresholds", done=done, total=len(network.fires), loss=None)
        context.progress(advance)
    for fire in network.fires.values():
        fire.threshold.data.mul_(settings.scale)
    metrics = {
        "thresholds_at_floor": share_at_floor(network),
        "percentile_error": calibration.error,
    }
    raise_to_floor(network)
    wipe_statistics(network)
    context.machine.synchronise(network)
    return State(network=network, metrics={**mean_thresholds(network), **metrics})


def share_at_floor(network: SpikingNetwork) -> float:
    """Return the share of stored thresholds that are not above `THRESHOLD_FLOOR`."""
    stored = torch.cat([fire.threshold.detach().flatten() for fire in network.fires.values()])
    return float((stored <= THRESHOLD_FLOOR).double().mean())


def wipe_statistics(network: nn.Module) -> None:
    """Set the running statistics of every batch norm to mean 0 and variance 1, in place."""
    for module in network.modules():
        if isinstance(module, BATCH_NORMS):
            module.reset_running_stats()
