"""The baseline: the network in dense float32 PyTorch, layer by layer over all steps.

As fast as PyTorch can be made to run it: the steps are part of the batch of every
convolution, maps lie channels last, nothing is kept for a gradient, the neurons are updated
in place, the first layer runs once for all steps, and only `chunk` images are processed at a
time, so that the maps stay in the caches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from simulators_networks import Network, Stage
from torch import Tensor

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensors:
    """A stage as PyTorch reads it."""

    weight: Tensor
    bias: Tensor
    pool: bool


class Dense:
    """A network in PyTorch."""

    def __init__(self, network: Network, chunk: int) -> None:
        self.stages = [as_tensors(stage) for stage in network.stages]
        self.thresholds = [stage.threshold for stage in network.stages]
        self.steps, self.chunk = network.setting.steps, chunk

    def run(self, codes: npt.NDArray[np.int32], kept: list[list[Counts]] | None = None) -> Counts:
        """Return the logits (samples, classes); add each layer's spikes, counted, to `kept`."""
        with torch.inference_mode():
            parts = [
                self._run(codes[first : first + self.chunk], kept)
                for first in range(0, len(codes), self.chunk)
            ]
        return np.concatenate(parts)

    def _run(self, codes: npt.NDArray[np.int32], kept: list[list[Counts]] | None) -> Counts:
        x, steps = image(codes), 1
        found: list[Counts] = []
        for stage, threshold in zip(self.stages, self.thresholds, strict=True):
            current = currents(stage, x).unflatten(0, (steps, len(codes)))
            if threshold is None:
                break
            spikes = fire(current, float(threshold), self.steps)
            if kept is not None:
                found.append(spikes.sum(0).flatten(1).long().numpy())
            x, steps = spikes.flatten(0, 1), self.steps
        if kept is not None:
            kept.append(found)
        return current.double().sum(0).flatten(1).long().numpy()


def as_tensors(stage: Stage) -> Tensors:
    """Return a stage as float32 tensors, kernels channels last."""
    weight = torch.tensor(stage.weight, dtype=torch.float32)
    if weight.dim() == 4:
        weight = weight.contiguous(memory_format=torch.channels_last)
    return Tensors(
        weight=weight, bias=torch.tensor(stage.bias, dtype=torch.float32), pool=stage.pool
    )


def image(codes: npt.NDArray[np.int32]) -> Tensor:
    """Return codes (samples, *shape) as float32, channels last."""
    x = torch.tensor(codes, dtype=torch.float32)
    return x.contiguous(memory_format=torch.channels_last)


def currents(stage: Tensors, x: Tensor) -> Tensor:
    """Return what arrives at a stage of x (batch, *shape)."""
    if stage.pool:
        x = F.avg_pool2d(x, 2, divisor_override=1)
    if stage.weight.dim() == 4:
        return F.conv2d(x, stage.weight, stage.bias, padding=1)
    return F.linear(x.flatten(1), stage.weight, stage.bias)


def fire(currents: Tensor, threshold: float, steps: int) -> Tensor:
    """Return the spikes (steps, samples, ...) of neurons; `currents` are overwritten.

    Currents have one step where they are the same at every step.
    """
    spikes = currents
    if len(currents) < steps:
        spikes = currents.new_empty((steps, *currents.shape[1:]))
        if currents.dim() == 5:
            spikes = spikes.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            spikes = spikes.unflatten(0, (steps, currents.shape[1]))
    v = torch.zeros_like(currents[0])
    fired = torch.empty_like(v, dtype=torch.bool)
    for t in range(steps):
        v += currents[t if len(currents) > 1 else 0]
        torch.ge(v, threshold, out=fired)
        spikes[t].copy_(fired)
        v.masked_fill_(fired, 0.0)
    return spikes
