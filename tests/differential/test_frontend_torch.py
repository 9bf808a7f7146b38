"""The graph computes what the module computes, row by row of the frontend's table.

Everything runs in float64, so the two differ only in the order of their sums: 1e-10 is far
above that and far below the effect of any wrong stride, padding, constant or weight.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from snnc.frontend.torch_module import from_torch
from snnc.ir import graph as ir
from snnc.ir.graph import Granularity, Reset
from snnc.ir.weights import Csr, unpack
from snnc.learn.neurons import Fire, Normalize
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from snnc.simulate.floating import run_graph
from torch import nn

TOLERANCE = 1e-10
IMAGE = (4, 8, 6)  # height and width differ, so a swap shows


class Calls(nn.Module):
    """A network whose forward pass is a function of the module; it owns a few layers."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 1)
        self.linear = nn.Linear(4 * 8 * 6, 3)
        self.small = nn.Linear(4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.9)
        self.register_buffer("mean", torch.tensor([0.5, 0.25, 0.1, 0.9]).view(1, 4, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.25, 2.0, 0.7]).view(4, 1, 1))
        self.register_buffer("flat", torch.tensor([0.2, 0.25, 2.0, 0.7]))

    def forward(self, x):
        return self.function(self, x)


def scrambled(network: nn.Module) -> nn.Module:
    """Give every weight and statistic a value of its own, in float64, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    network = network.double().eval()
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if not tensor.is_floating_point() or name.rpartition(".")[2] in ("mean", "std", "flat"):
                continue
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
            if name.endswith("running_var"):
                tensor.abs_().add_(0.1)
    return network


def batch(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *shape, generator=generator, dtype=torch.float64)


def converted_and_equal(network: nn.Module, shape: tuple[int, ...]) -> ir.Graph:
    """Convert, compare the outputs, return the graph."""
    network = scrambled(network)
    graph = from_torch(network, input_shape=shape)
    images = batch(shape)
    expected = network(images.clone()).detach().numpy()
    found = run_graph(graph, images.numpy())
    assert np.abs(expected).max() > 1e-3  # an output of zeros would prove nothing
    assert np.abs(found - expected).max() <= TOLERANCE
    return graph


MAP_LAYERS = {
    "conv": nn.Conv2d(4, 5, 3),
    "conv, stride and padding in two sizes": nn.Conv2d(4, 5, (3, 2), stride=(2, 1), padding=(1, 2)),
    "conv, no bias": nn.Conv2d(4, 5, 3, bias=False),
    "conv, groups": nn.Conv2d(4, 6, 3, groups=2),
    "conv, depthwise": nn.Conv2d(4, 8, 3, groups=4, padding=1),
    "conv, same": nn.Conv2d(4, 5, (3, 5), padding="same"),
    "conv, valid": nn.Conv2d(4, 5, 3, padding="valid"),
    "batch norm": nn.BatchNorm2d(4, eps=1e-3),
    "batch norm, not affine": nn.BatchNorm2d(4, affine=False),
    "relu": nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()),
    "relu, in place": nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)),
    "average pooling": nn.AvgPool2d(2),
    "average pooling, overlapping": nn.AvgPool2d((3, 2), stride=(2, 1)),
    "average pooling, windows that do not fit": nn.AvgPool2d(4, stride=3),
    "average pooling, padding counted or not": nn.AvgPool2d(2, count_include_pad=False),
    "adaptive pooling to one": nn.AdaptiveAvgPool2d(1),
    "adaptive pooling to a grid": nn.AdaptiveAvgPool2d((4, 2)),
    "adaptive pooling of one side": nn.AdaptiveAvgPool2d((None, 3)),
    "identity": nn.Identity(),
    "dropout": nn.Dropout(0.9),
    "dropout of channels": nn.Dropout2d(0.9),
    "alpha dropout": nn.AlphaDropout(0.9),
    "normalisation": Normalize([0.5, 0.25, 0.1, 0.9], [0.2, 0.25, 2.0, 0.7]),
}


@pytest.mark.parametrize("layer", MAP_LAYERS.values(), ids=MAP_LAYERS.keys())
def test_each_layer_of_maps_keeps_its_meaning(layer):
    converted_and_equal(nn.Sequential(layer, nn.Flatten()), IMAGE)


FLAT_LAYERS = {
    "linear": nn.Linear(7, 3),
    "linear, no bias": nn.Linear(7, 3, bias=False),
    "batch norm": nn.BatchNorm1d(7),
    "batch norm, not affine": nn.BatchNorm1d(7, affine=False),
    "flatten of what is flat": nn.Sequential(nn.Flatten(), nn.Linear(7, 3)),
    "one-dimensional dropout": nn.Sequential(nn.Linear(7, 7), nn.Dropout(0.5)),
}


@pytest.mark.parametrize("layer", FLAT_LAYERS.values(), ids=FLAT_LAYERS.keys())
def test_each_flat_layer_keeps_its_meaning(layer):
    converted_and_equal(nn.Sequential(layer), (7,))


def test_a_single_layer_is_a_network():
    converted_and_equal(nn.Linear(7, 3), (7,))


CALLS = {
    "F.relu": lambda m, x: F.relu(m.conv(x)).flatten(1),
    "F.relu in place": lambda m, x: F.relu(m.conv(x), inplace=True).flatten(1),
    "torch.relu": lambda m, x: torch.relu(m.conv(x)).flatten(1),
    "relu method": lambda m, x: m.conv(x).relu().flatten(1),
    "relu_ method": lambda m, x: m.conv(x).relu_().flatten(1),
    "one relu module at three places": lambda m, x: m.relu(
        m.small(m.relu(m.second(m.relu(m.conv(x)))).mean((2, 3)))
    ),
    "one dropout at two places": lambda m, x: m.drop(m.second(m.drop(m.conv(x)))).flatten(1),
    "F.dropout in eval": lambda m, x: F.dropout(m.conv(x), 0.9, m.training).flatten(1),
    "F.avg_pool2d": lambda m, x: F.avg_pool2d(x, 2).flatten(1),
    "F.avg_pool2d by keywords": lambda m, x: F.avg_pool2d(
        x, kernel_size=(2, 3), stride=1, count_include_pad=False
    ).flatten(1),
    "F.avg_pool2d over the size of the map": lambda m, x: F.avg_pool2d(
        m.conv(x), x.size()[2:]
    ).flatten(1),
    "F.adaptive_avg_pool2d": lambda m, x: F.adaptive_avg_pool2d(x, (4, 3)).flatten(1),
    "mean of a tuple": lambda m, x: m.small(m.conv(x).mean((2, 3))),
    "mean of a list, from the back": lambda m, x: m.small(m.conv(x).mean([-1, -2])),
    "mean with keepdim": lambda m, x: m.second(m.conv(x).mean((2, 3), keepdim=True)).flatten(1),
    "torch.mean": lambda m, x: m.small(torch.mean(m.conv(x), dim=(2, 3))),
    "torch.flatten": lambda m, x: m.linear(torch.flatten(x, 1)),
    "torch.flatten by keyword": lambda m, x: m.linear(torch.flatten(x, start_dim=1)),
    "flatten from the back": lambda m, x: m.linear(x.flatten(-3)),
    "view": lambda m, x: m.linear(m.conv(x).view(x.size(0), -1)),
    "view with its size": lambda m, x: m.linear(m.conv(x).view(-1, 4 * 8 * 6)),
    "view of a tuple": lambda m, x: m.linear(m.conv(x).view((x.shape[0], -1))),
    "reshape": lambda m, x: m.linear(m.conv(x).reshape(len_of(x), -1)),
    "torch.reshape": lambda m, x: m.linear(torch.reshape(m.conv(x), (x.shape[0], -1))),
    "computed sizes": lambda m, x: m.linear(x.view(-1, x.size(1) * x.size(2) * x.size(3))),
    "contiguous": lambda m, x: m.linear(m.conv(x).contiguous().clone().view(x.size(0), -1)),
    "+": lambda m, x: (m.conv(x) + m.second(x)).flatten(1),
    "+=": lambda m, x: inplace_sum(m.conv(x), m.second(x)).flatten(1),
    "torch.add": lambda m, x: torch.add(m.conv(x), m.second(x)).flatten(1),
    "add method": lambda m, x: m.conv(x).add(m.second(x)).flatten(1),
    "x + x": lambda m, x: twice(m.conv(x)).flatten(1),
    "python's sum": lambda m, x: sum([m.conv(x), m.second(x), x]).flatten(1),
    "pixels - c / d": lambda m, x: m.linear(((x - m.mean) / m.std).flatten(1)),
    "pixels - c, by scalars": lambda m, x: m.linear(((x - 0.5) * 4).flatten(1)),
    "2 * pixels - 1": lambda m, x: m.linear((2 * x - 1).flatten(1)),
    "pixels * c + d": lambda m, x: m.linear((x * m.std + m.mean).flatten(1)),
    "torch.sub and torch.div": lambda m, x: m.linear(
        torch.div(torch.sub(x, m.mean), m.std).flatten(1)
    ),
    "a constant reshaped on the way": lambda m, x: m.linear(
        ((x - m.flat.view(1, -1, 1, 1)) / m.flat[:, None, None]).flatten(1)
    ),
    "normalised and raw pixels": lambda m, x: (m.conv(x - m.mean) + m.second(x)).flatten(1),
    "a residual around normalised pixels": lambda m, x: residual(m, (x - 0.5) / 0.25).flatten(1),
    "functional weights": lambda m, x: F.linear(
        F.batch_norm(
            F.conv2d(x, m.conv.weight, m.conv.bias, padding=1),
            m.norm.running_mean,
            m.norm.running_var,
            m.norm.weight,
            m.norm.bias,
        ).flatten(1),
        m.linear.weight,
    ),
    "a masked weight": lambda m, x: F.conv2d(x, m.conv.weight * (m.conv.weight > 0)).flatten(1),
}


def len_of(x):
    return x.shape[0]


def inplace_sum(a, b):
    a += b
    return a


def twice(x):
    return x + x


def residual(m, x):
    return m.conv(x) + x


@pytest.mark.parametrize("function", CALLS.values(), ids=CALLS.keys())
def test_each_function_and_method_keeps_its_meaning(function):
    converted_and_equal(Calls(function), IMAGE)


class Block(nn.Module):
    """A residual block as a user would write it, knowing nothing of this project."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x, extra=None):
        identity = self.shortcut(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class Residual(nn.Module):
    """A small residual network with average pooling and a normalisation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.49, 0.48, 0.45]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.25, 0.24, 0.26]).view(1, 3, 1, 1))
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList([Block(8, 8, 1), Block(8, 12, 2)])
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(12, 5))

    def forward(self, x):
        x = (x - self.mean) / self.std
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        x = self.pool(x)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.head(torch.flatten(x, 1))


def test_a_users_own_residual_network_converts_and_agrees():
    graph = converted_and_equal(Residual(), (3, 8, 8))
    assert [(node.name, type(node.op).__name__, node.inputs) for node in graph.nodes] == [
        ("input", "Input", ()),
        ("truediv", "Normalize", ("input",)),
        ("stem", "Conv2d", ("truediv",)),
        ("relu", "Relu", ("stem",)),
        ("blocks.0.conv1", "Conv2d", ("relu",)),
        ("blocks.0.bn1", "BatchNorm", ("blocks.0.conv1",)),
        ("blocks.0.relu", "Relu", ("blocks.0.bn1",)),
        ("blocks.0.conv2", "Conv2d", ("blocks.0.relu",)),
        ("blocks.0.bn2", "BatchNorm", ("blocks.0.conv2",)),
        ("add", "Add", ("blocks.0.bn2", "relu")),
        ("blocks.0.relu_1", "Relu", ("add",)),
        ("blocks.1.shortcut.0", "Conv2d", ("blocks.0.relu_1",)),
        ("blocks.1.shortcut.1", "BatchNorm", ("blocks.1.shortcut.0",)),
        ("blocks.1.conv1", "Conv2d", ("blocks.0.relu_1",)),
        ("blocks.1.bn1", "BatchNorm", ("blocks.1.conv1",)),
        ("blocks.1.relu", "Relu", ("blocks.1.bn1",)),
        ("blocks.1.conv2", "Conv2d", ("blocks.1.relu",)),
        ("blocks.1.bn2", "BatchNorm", ("blocks.1.conv2",)),
        ("add_1", "Add", ("blocks.1.bn2", "blocks.1.shortcut.1")),
        ("blocks.1.relu_1", "Relu", ("add_1",)),
        ("pool", "AvgPool2d", ("blocks.1.relu_1",)),
        ("adaptive_avg_pool2d", "AvgPool2d", ("pool",)),
        ("flatten", "Flatten", ("adaptive_avg_pool2d",)),
        ("head.0", "Identity", ("flatten",)),
        ("head.1", "Linear", ("head.0",)),
        ("readout", "Readout", ("head.1",)),
    ]


@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_a_spiking_residual_network_spikes_alike(reset, granularity, keep):
    network = to_spiking(
        Residual(),
        input_shape=(3, 8, 8),
        steps=4,
        reset=reset,
        keep=keep,
        granularity=granularity,
        surrogate=TRIANGLE,
    )
    network = scrambled(network)
    with torch.no_grad():
        for fire in network.fires.values():
            fire.threshold.abs_().add_(0.1)
    images = batch((3, 8, 8))
    graph = from_torch(network, input_shape=(3, 8, 8))
    expected = network(images).detach().numpy()
    assert graph.steps == 4
    assert len(np.unique(expected)) > 1
    # Sums differ in order by less than 1e-12; no membrane of this draw lies as close to its
    # threshold, so the spikes are equal and the logits differ only by the last layer's order.
    assert np.abs(run_graph(graph, images.numpy()) - expected).max() <= TOLERANCE


def test_a_spiking_last_layer_is_read_by_its_spikes():
    ann = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Dropout(0.5))
    network = to_spiking(
        ann,
        input_shape=(6,),
        steps=5,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )
    network = scrambled(network)
    with torch.no_grad():
        network.fires["1"].threshold.fill_(0.7)
    graph = from_torch(network, input_shape=(6,))
    assert graph.nodes[-1].op == ir.Readout(decision=ir.Decision.SPIKES)
    images = batch((6,), 20)
    expected = network(images).detach().numpy()
    assert len(np.unique(expected)) > 2
    assert (run_graph(graph, images.numpy()) == expected).all()  # counts of spikes over 5


def test_a_users_own_spiking_layer_converts_without_a_spiking_network():
    fire = Fire(
        threshold=torch.tensor(0.6),
        granularity=Granularity.LAYER,
        reset=Reset.SUBTRACT,
        keep=1.0,
        steps=4,
        surrogate=TRIANGLE,
    )
    graph = from_torch(nn.Sequential(nn.Linear(6, 4), fire, nn.Linear(4, 2)), input_shape=(6,))
    assert graph.steps == 4
    assert isinstance(graph["1"].op, ir.Fire)


def test_a_threshold_below_the_floor_converts_as_the_floor_that_runs():
    fire = Fire(
        threshold=torch.tensor([0.5, -1.0, 0.001, 0.25]),
        granularity=Granularity.NEURON,
        reset=Reset.ZERO,
        keep=1.0,
        steps=2,
        surrogate=TRIANGLE,
    )
    graph = from_torch(nn.Sequential(nn.Linear(6, 4), fire), input_shape=(6,))
    floor = float(np.float32(0.03))
    assert graph["1"].op.threshold.tolist() == [0.5, floor, floor, 0.25]


@pytest.mark.parametrize(("zeros", "kind"), [(0.2, "Dense"), (0.9, "Csr")])
def test_zero_weights_stay_zero_and_a_sparse_weight_stays_sparse(zeros, kind):
    layer = nn.Conv2d(4, 8, 3)
    with torch.no_grad():
        mask = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(3)) < zeros
        layer.weight[mask] = 0.0
    graph = from_torch(nn.Sequential(layer, nn.Flatten()), input_shape=IMAGE)
    weight = graph["0"].op.weight
    assert type(weight).__name__ == kind
    assert (unpack(weight) == layer.weight.detach().double().numpy()).all()
    assert (unpack(weight)[mask.numpy()] == 0.0).all()
    if isinstance(weight, Csr):
        assert len(weight.data) == int((~mask).sum())
