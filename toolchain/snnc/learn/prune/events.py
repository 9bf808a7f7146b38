"""Synaptic events: what the weights of a network cost when it runs as a spiking one.

An event is one spike meeting one synapse whose target lies inside the output.

The first layer gets numbers, not spikes, and the same ones at every step: each of its
synapses counts once for each image, not once for each step, since its current can be kept.
Pixels that are zero count too: normalisation makes them something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from snnc.frontend.torch_module import from_torch
from snnc.learn.convert import Convert, convert, spiking
from snnc.learn.prune.counts import layer_of
from snnc.learn.prune.fan_outs import FanOuts, fan_outs
from snnc.learn.prune.masks import prunable
from snnc.learn.snapshots import Snapshots
from snnc.learn.spiking import SpikingNetwork, spiking_copy
from snnc.learn.stage import Context, Samples, State, TrainingData, in_order, silent


class Meter:
    """Counts the events of a network's layers on the validation split.

    To be measured, a network is converted as the recipe says, with thresholds and batch
    statistics of its own, and always by the same random draws. Every process measures for
    itself, all samples, so that all find the same.

    Raises:
        Refusal: a layer is driven by something else than pixels and spikes.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: Convert,
        data: TrainingData,
        context: Context,
        *,
        batch: int,
    ) -> None:
        self.network, self.settings, self.data, self.batch = network, settings, data, batch
        self.shape = tuple(data.train.pixels.shape[1:])
        alone = replace(context.machine, rank=0, processes=1)
        self.context = replace(
            context.phase("events"), machine=alone, snapshots=Snapshots(), progress=silent
        )
        self.dense = self._fan_outs(spiking(network, settings, self.shape), dense=True)

    def dense_events(self, network: nn.Module) -> list[int]:
        """Return what the layers would deliver with all their weights, over all samples.

        The spikes are those of the network as it is, masked. A layer that no spike reaches,
        or that the network does not use, costs nothing.
        """
        spikes = self._spikes(self._converted(network))
        return [self._delivered(spikes, self.dense.get(name, {})) for name in self._layers()]

    def metrics(self, pruned: nn.Module) -> dict[str, float]:
        """Return the events of one image, of all layers together.

        events.before   of the network before pruning
        events.after    of the pruned network
        events.share    of those that the pruned network's spikes would deliver if no
                        weight were missing, the share that they do deliver
        """
        before, after = self._converted(self.network), self._converted(pruned)
        dense = self._total(after, dense=True)
        delivered = self._total(after, dense=False)
        count = len(self.data.validation)
        return {
            "events.before": self._total(before, dense=False) / count,
            "events.after": delivered / count,
            "events.share": delivered / dense,
        }

    def _total(self, converted: SpikingNetwork, *, dense: bool) -> int:
        spikes, reached = self._spikes(converted), self._fan_outs(converted, dense=dense)
        return sum(self._delivered(spikes, of_layer) for of_layer in reached.values())

    def _layers(self) -> list[str]:
        return [layer_of(name) for name in prunable(self.network)]

    def _converted(self, network: nn.Module) -> SpikingNetwork:
        state = convert(State(network=network), self.settings, self.data, self.context)
        return spiking_copy(state.network, "counting events").eval()

    def _fan_outs(self, network: SpikingNetwork, *, dense: bool) -> dict[str, FanOuts]:
        graph = from_torch(network, input_shape=self.shape)
        return fan_outs(graph, self._layers(), dense=dense)

    def _spikes(self, network: SpikingNetwork) -> dict[str, Tensor]:
        return spike_counts(network, self.data.validation, batch=self.batch)

    def _delivered(self, spikes: Mapping[str, Tensor], reached: FanOuts) -> int:
        """Return the events that reach one layer, over all samples."""
        pixels = len(self.data.validation)  # once for each image
        return sum(
            int((spikes[source].numpy() * fan_out).sum())
            if source in spikes
            else pixels * int(fan_out.sum())
            for source, fan_out in reached.items()
        )


@torch.no_grad()
def spike_counts(network: SpikingNetwork, samples: Samples, *, batch: int) -> dict[str, Tensor]:
    """Return how often each neuron fires, over all steps and samples: int64, on the CPU.

    The network is run in the mode it is in.
    """
    counts: dict[str, Tensor] = {}
    watches = []
    for name, fire in network.fires.items():

        def add(_: nn.Module, __: object, fired: Tensor, name: str = name) -> None:
            counts[name] = counts.get(name, torch.zeros(())) + fired.sum(0, dtype=torch.float64)

        watches.append(fire.register_forward_hook(add))
    for part in in_order(samples, batch):
        network(part.images)
    for watch in watches:
        watch.remove()
    return {name: count.cpu().to(torch.int64) for name, count in counts.items()}
