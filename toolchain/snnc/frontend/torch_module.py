"""From a PyTorch module to a Graph.

The module is traced in eval mode, run once on empty images for the shapes, and then each
call is looked up in `snnc.frontend.table`. Nodes carry the user's module paths; functions
carry the name that tracing gives them. Everything unsupported is listed at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.fx
from torch import nn

from snnc.errors import InvalidSetting
from snnc.frontend.conversion import Conversion
from snnc.frontend.observed import empty_images, observe
from snnc.frontend.tracing import trace
from snnc.ir.check import check_graph
from snnc.ir.graph import Graph
from snnc.ir.weights import Shape
from snnc.learn import neurons
from snnc.learn.spiking import SpikingNetwork


def from_torch(
    network: nn.Module,
    *,
    input_shape: Shape,
    steps: int = 1,
    class_names: tuple[str, ...] = (),
    provenance: Mapping[str, object] | None = None,
) -> Graph:
    """Return the graph of what a network computes in eval mode; the network is not changed.

    `input_shape` is (channels, height, width), or (neurons,), of one image. A plain network
    gives `Relu` nodes and has one step; a `SpikingNetwork`, or a module with `Fire` layers,
    gives `Fire` nodes and has the steps of those layers. Weights are float64 copies.

    Raises:
        Unsupported: the network cannot be traced, fails on such images, uses what the graph
            does not have, or uses the same weights at two places.
        InvalidGraph: a value is not allowed: NaN, infinity, a threshold that is not positive.
        InvalidSetting: `steps` contradicts the network, or `input_shape` is no shape.
    """
    if len(input_shape) not in (1, 3) or min(input_shape) < 1:
        raise InvalidSetting(
            f"the input shape {input_shape} is none of images; "
            "give (channels, height, width) or (neurons,)"
        )
    body = network.body if isinstance(network, SpikingNetwork) else network
    traced = trace(body, leaves=(neurons.Fire,))
    steps = _steps(network, traced, steps)
    batch = 2 * steps
    seen = observe(traced, empty_images(network, (batch, *input_shape)))
    conversion = Conversion(traced, seen, input_shape, batch)
    return check_graph(
        Graph(
            nodes=conversion.run(),
            steps=steps,
            class_names=class_names,
            provenance=dict(provenance or {}),
        )
    )


def _steps(network: nn.Module, traced: torch.fx.GraphModule, asked: int) -> int:
    """Return the steps of the spiking layers, or 1 if there are none."""
    found = {module.steps for module in traced.modules() if isinstance(module, neurons.Fire)}
    if isinstance(network, SpikingNetwork):
        found.add(network.steps)
    if len(found) > 1:
        raise InvalidSetting(
            f"spiking layers disagree on the number of steps: {sorted(found)}; give all the same"
        )
    steps = next(iter(found), 1)
    if asked not in (1, steps):
        raise InvalidSetting(
            f"{asked} steps were asked for, the network runs {steps}; leave the steps out"
        )
    return steps
