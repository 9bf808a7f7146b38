"""Threshold balancing: each layer fires at a high percentile of what it is driven with.

Source: Schmolli et al., CPAL 2025, section 3.2 and algorithm 1; `find_threshold` of
RobustSNNConversion, whose residual blocks mix up two layers' maxima (not copied).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor, fx, nn

from snnc.learn.neurons import Fire, raise_to_floor
from snnc.learn.settings import Count, Percent, Positive, Settings
from snnc.learn.spiking import SpikingNetwork, mean_thresholds, spiking_copy, view
from snnc.learn.stage import Advance, Progress, State, TrainingData, batches

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Balance(Settings):
    """How to calibrate; the papers use 100, 99.7, 0.3, 10 and 64."""

    steps: Count  # T_c, time steps of a calibration pass
    percentile: Percent  # rho
    scale: Positive  # lambda, multiplies every calibrated threshold
    batches: Count
    batch: Count


def balance(
    state: State,
    settings: Balance,
    data: TrainingData,
    generator: torch.Generator,
    progress: Progress,
) -> State:
    """Return the spiking network with balanced thresholds, one value for each layer.

    Layers are set front to back. A layer's threshold is the largest, over the batches, of
    the percentile of all its input currents (negative ones included), while every layer
    before it fires at its own calibrated, unscaled threshold. Then all are multiplied by
    `scale`. During the passes batch norm uses the statistics of the calibration batch;
    afterwards its running statistics are wiped (mean 0, variance 1). Weights and the
    affine part of batch norm stay as they are, bit for bit. A layer with many thresholds
    gets the same value in all of them; finetuning tells them apart.

    With direct coding a layer before any spike is driven by the same current at every
    step, so one step tells the same as T_c, and its value does not depend on T_c.
    """
    network = spiking_copy(state.network, "balance")
    images = list(islice(_endless(data, settings.batch, generator), settings.batches))
    calibrated: dict[str, float] = {}
    for done, (name, fire) in enumerate(network.fires.items(), start=1):
        current = _current_of(network, name, settings.steps)
        calibrated[name] = max(percentile(current(x), settings.percentile) for x in images)
        fire.threshold.data.fill_(calibrated[name])
        progress(Advance(work="thresholds", done=done, total=len(network.fires), loss=None))
    for name, fire in network.fires.items():
        fire.threshold.data.fill_(settings.scale * calibrated[name])
    raise_to_floor(network)
    wipe_statistics(network)
    return State(network=network, metrics=mean_thresholds(network))


def percentile(values: Tensor, rho: float) -> float:
    """Return the k-th smallest of n values, k = 1 + round(0.01 rho (n - 1)).

    >>> percentile(torch.arange(1, 1001), 99.7), percentile(torch.arange(1, 65), 99.7)
    (997.0, 64.0)
    """
    k = 1 + round(0.01 * rho * (values.numel() - 1))
    return float(values.flatten().kthvalue(k).values)


def wipe_statistics(network: nn.Module) -> None:
    """Set the running statistics of every batch norm to mean 0 and variance 1, in place."""
    for module in network.modules():
        if isinstance(module, BATCH_NORMS):
            module.reset_running_stats()


def _endless(data: TrainingData, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield training images, `size` at a time, pass after pass in new orders."""
    while True:
        for batch in batches(data.train, size, generator):
            yield batch.images


def _current_of(network: SpikingNetwork, name: str, steps: int) -> Callable[[Tensor], Tensor]:
    """Return a function from images to all input currents of one layer over time.

    Runs a view up to that layer, for `steps` steps, or one where the current is constant.
    """
    watched = view(network, surrogate=network.fires[name].surrogate)
    for module in watched.modules():
        if isinstance(module, BATCH_NORMS):  # without statistics, eval mode uses the batch's
            module.running_mean = module.running_var = None
    part, spikes_before = _up_to(watched.body, name)
    repeats = steps if spikes_before else 1
    for fire in watched.fires.values():
        fire.steps = repeats

    @torch.no_grad()
    def current(images: Tensor) -> Tensor:
        merged = images.repeat(repeats, *(1,) * (images.dim() - 1))
        result: Tensor = part(merged)
        return result

    return current


def _up_to(body: fx.GraphModule, name: str) -> tuple[fx.GraphModule, bool]:
    """Return the part of a traced network that drives layer `name`, and if that spikes."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in body.graph.nodes:
        if node.op == "call_module" and node.target == name:
            graph.output(copies[node.args[0]])
            break
        copies[node] = graph.node_copy(node, copies.__getitem__)
    part = fx.GraphModule(body, graph).eval()
    part.graph.eliminate_dead_code()
    part.recompile()
    part.delete_all_unused_submodules()
    return part, any(isinstance(module, Fire) for module in part.modules())
