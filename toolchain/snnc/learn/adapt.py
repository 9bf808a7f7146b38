"""Batch norm adaptation: fresh running statistics for the balanced spiking network.

Balancing wipes them, and the adversary of finetuning attacks in eval mode, where they
count. Without this stage the first epochs would train against a broken adversary.
"""

from __future__ import annotations

import torch

from snnc.learn.balance import wipe_statistics
from snnc.learn.calibration_images import training_images
from snnc.learn.calibration_segments import BATCH_NORMS
from snnc.learn.settings import Count, Settings
from snnc.learn.spiking import spiking_copy
from snnc.learn.stage import Advance, Context, State, TrainingData, accuracy


class Adapt(Settings):
    """How many passes over the training split, and in batches of which size."""

    epochs: Count
    batch: Count


@torch.no_grad()
def adapt(state: State, settings: Adapt, data: TrainingData, context: Context) -> State:
    """Return the network with running statistics averaged over clean training batches.

    Statistics are taken over steps and samples together (merged time), each batch with the
    same weight, while everything else runs in eval mode: no dropout. Images are varied as
    in training. Nothing else changes.

    Raises:
        InvalidSetting: the network does not spike.
    """
    network = spiking_copy(state.network, "adapt").eval()
    wipe_statistics(network)
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = None  # the running statistics become the mean over all batches
    for epoch in range(settings.epochs):
        for images in training_images(data, settings.batch, context, epoch):
            network(images)
        context.progress(
            Advance(work="statistics passes", done=epoch + 1, total=settings.epochs, loss=None)
        )
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
    context.machine.synchronise(network)
    return State(
        network=network, metrics={"validation_accuracy": accuracy(network, data.validation)}
    )
