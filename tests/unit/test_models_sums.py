"""The learned sum of residual blocks, and how its factors reach the graph."""

from __future__ import annotations

import numpy as np
import pytest
import snnc
import torch
from snnc.errors import Unsupported
from snnc.frontend.torch_module import from_torch
from snnc.ir.graph import BatchNorm, Conv2d, Identity, Linear
from snnc.ir.weights import unpack
from snnc.learn.spiking import Granularity, Reset, to_spiking
from snnc.learn.surrogates import TRIANGLE
from snnc.simulate.floating import run_graph
from snnc_models.weighted_sum import WeightedSum
from torch import nn

IMAGE = (2, 4, 3)


class Calls(nn.Module):
    """A network whose forward pass is a function of the module; it owns a few layers."""

    def __init__(self, function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.again = nn.BatchNorm2d(2)
        self.relu = nn.ReLU()
        self.identity = nn.Identity()
        self.readout = nn.Linear(24, 3)
        self.sum = WeightedSum()
        self.factor = nn.Parameter(torch.tensor([0.3, -2.0]).reshape(2, 1, 1))
        for norm in (self.norm, self.again):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
        self.double().eval()

    def forward(self, x):
        return self.readout(self.function(self, x).flatten(1))


def graph_of(function):
    return from_torch(Calls(function), input_shape=IMAGE)


def test_a_learned_sum_starts_as_the_mean_of_its_branches():
    one, other = torch.rand(2, 3), torch.rand(2, 3)
    assert torch.equal(WeightedSum()(one, other), 0.5 * one + 0.5 * other)
    assert {name: p.item() for name, p in WeightedSum().named_parameters()} == {
        "shortcut": 0.5,
        "branch": 0.5,
    }


def test_both_numbers_of_a_learned_sum_learn():
    joined, one, other = WeightedSum(), torch.tensor([1.0, 2.0]), torch.tensor([5.0, 7.0])
    joined(one, other).sum().backward()
    assert (joined.shortcut.grad.item(), joined.branch.grad.item()) == (3.0, 12.0)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.conv(x) * 0.5,
        lambda m, x: -3.0 * m.conv(x),
        lambda m, x: m.conv(x) / 4,
        lambda m, x: m.conv(x) * m.factor,
        lambda m, x: m.conv(x) / m.factor,
        lambda m, x: m.norm(m.conv(x)) * m.factor,
        lambda m, x: m.relu(m.conv(x)) * m.factor,
        lambda m, x: m.relu(m.conv(x)).flatten(1) * 0.25,
        lambda m, x: m.conv(x).flatten(1).relu() * 0.25,
        lambda m, x: m.again(m.norm(m.conv(x))),
        lambda m, x: m.again(m.norm(m.conv(x))) * 0.5 * m.factor,
        lambda m, x: m.sum(m.relu(x), m.norm(m.conv(x))),
        lambda m, x: (lambda y: m.sum(y, m.again(y)))(m.norm(m.conv(x))),
    ],
)
def test_a_factor_inside_the_network_keeps_its_meaning(function):
    network = Calls(function)
    images = torch.rand(3, *IMAGE, generator=torch.Generator().manual_seed(0)).double()
    graph = from_torch(network, input_shape=IMAGE)
    with torch.no_grad():
        logits = network(images)
    # float64: only the order of the arithmetic differs
    np.testing.assert_allclose(run_graph(graph, images.numpy()), logits, rtol=0, atol=1e-12)


def test_a_factor_of_what_neurons_emit_is_a_synapse_for_each_neuron():
    op = graph_of(lambda m, x: m.identity(m.relu(m.conv(x))) * m.factor).nodes[-4].op
    assert isinstance(op, Conv2d)
    assert op.groups == 2
    # the parameter was made in float32
    assert unpack(op.weight).ravel() == pytest.approx([0.3, -2.0], rel=1e-7)
    flat = graph_of(lambda m, x: m.conv(x).flatten(1).relu() * 0.25)["mul"].op
    assert isinstance(flat, Linear)
    assert np.array_equal(unpack(flat.weight), 0.25 * np.eye(24))


def test_a_factor_of_another_map_is_a_batch_norm_and_two_in_a_row_are_one():
    graph = graph_of(lambda m, x: m.norm(m.conv(x)) * 0.5)
    norms = [node for node in graph.nodes if isinstance(node.op, BatchNorm)]
    assert [node.inputs for node in norms] == [("conv",)]


def test_a_factor_of_one_is_nothing():
    graph = graph_of(lambda m, x: m.conv(x) * 1.0)
    assert isinstance(graph["mul"].op, Identity)


@pytest.mark.parametrize(
    ("function", "fact"),
    [
        (lambda m, x: m.conv(x) / 0.0, "a number that is not finite"),
        (lambda m, x: m.conv(x) * float("nan"), "a number that is not finite"),
        (lambda m, x: m.conv(x) - 0.5, "adds a constant in the middle of the network"),
    ],
)
def test_constants_without_a_place_in_the_graph_are_refused(function, fact):
    with pytest.raises(Unsupported, match=fact):
        graph_of(function)


def test_a_block_whose_shortcut_is_spikes_becomes_one_population_with_two_bundles():
    def block(m, x):
        spikes = m.relu(m.conv(x))
        return torch.relu(m.sum(spikes, m.norm(m.identity(spikes))))

    class Block(Calls):
        def __init__(self) -> None:
            super().__init__(block)
            self.identity = nn.Conv2d(2, 2, 3, padding=1).double()

    network = to_spiking(
        Block(),
        input_shape=IMAGE,
        steps=3,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )
    program = snnc.compile(network, target="reference")
    assert [layer.name for layer in program.layers] == ["conv", "sum"]
    assert [bundle.source for bundle in program.layers[1].synapses] == ["conv", "conv"]
