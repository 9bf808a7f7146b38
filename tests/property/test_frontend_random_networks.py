"""Generated networks: what converts computes the same, and zeros stay zero."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.frontend.torch_module import from_torch
from snnc.ir.graph import Conv2d, Linear
from snnc.ir.weights import nonzeros
from snnc.simulate.floating import run_graph
from torch import nn


class Branch(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


def convolution(draw, channels: int, kernel: int, after: int, **geometry) -> nn.Module:
    groups = draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == after % g == 0]))
    return nn.Conv2d(channels, after, kernel, groups=groups, bias=draw(st.booleans()), **geometry)


@st.composite
def networks(draw) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a random convolutional network and the shape of its images."""
    channels, height, width = draw(st.tuples(*[st.integers(1, 4), *[st.integers(3, 7)] * 2]))
    shape = (channels, height, width)
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "norm", "relu", "pool", "branch", "dropout"]))
        if kind == "conv":
            after, kernel = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 2, 3]))
            stride, padding = draw(st.integers(1, 2)), draw(st.integers(0, 2))
            sizes = [(size + 2 * padding - kernel) // stride + 1 for size in (height, width)]
            if min(sizes) < 1:
                continue
            layers.append(
                convolution(draw, channels, kernel, after, stride=stride, padding=padding)
            )
            channels, (height, width) = after, sizes
        elif kind == "pool" and min(height, width) >= 2:
            layers.append(nn.AvgPool2d(2, stride=draw(st.integers(1, 2))))
            stride = layers[-1].stride
            height, width = (height - 2) // stride + 1, (width - 2) // stride + 1
        elif kind == "branch":
            layers.append(
                Branch(
                    nn.Sequential(
                        convolution(draw, channels, 3, channels, padding="same"),
                        nn.BatchNorm2d(channels),
                        nn.ReLU(),
                    )
                )
            )
        elif kind == "norm":
            layers.append(nn.BatchNorm2d(channels))
        elif kind == "relu":
            layers.append(nn.ReLU(inplace=draw(st.booleans())))
        else:
            layers.append(nn.Dropout(0.5))
    layers += [nn.Flatten(), nn.Linear(channels * height * width, 3)]
    return nn.Sequential(*layers).double().eval(), shape


def fill(network: nn.Module, seed: int, zeros: float) -> None:
    """Draw every weight and statistic; make a share of the weights zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
            if tensor.dim() > 1:
                tensor[torch.rand(tensor.shape, generator=generator) < zeros] = 0.0


@settings(max_examples=60, deadline=None)
@given(networks(), st.integers(0, 2**16), st.sampled_from([0.0, 0.3, 0.9]))
def test_a_random_network_and_its_graph_agree(network_and_shape, seed, zeros):
    network, shape = network_and_shape
    fill(network, seed, zeros)
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed)).double()
    graph = from_torch(network, input_shape=shape)
    expected = network(images.clone()).detach().numpy()
    found = run_graph(graph, images.numpy())
    # Float64 sums of the same terms in another order, relative to the largest output.
    assert np.abs(found - expected).max() <= 1e-10 * max(1.0, np.abs(expected).max())
    wanted = {
        name: int(module.weight.count_nonzero())
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    kept = {
        node.name: nonzeros(node.op.weight)
        for node in graph.nodes
        if isinstance(node.op, Conv2d | Linear)
    }
    assert kept == wanted
