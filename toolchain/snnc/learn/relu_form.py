"""The ReLU form of a spiking network: what it computes with T = 0."""

from __future__ import annotations

from torch import nn

from snnc.learn.spiking import SpikingNetwork
from snnc.learn.views import eval_view


def relu_form(network: SpikingNetwork) -> SpikingNetwork:
    """Return the network in eval mode with a ReLU where each spiking layer is, for one step.

    Weights, batch norm and its running statistics are shared with the network, which stays
    as it is; thresholds do not count. Right after `to_spiking`, this is the ReLU network
    that was converted.
    """
    copied = eval_view(network)
    for name in network.fires:
        copied.body.set_submodule(name, nn.ReLU())
    copied.steps = 1
    return copied
