"""Tracing and conversion leave the network as it was, and name things as the user does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from snnc.errors import Unsupported
from snnc.frontend.torch_module import from_torch
from snnc.frontend.tracing import evaluating, trace
from snnc.ir.graph import Granularity, Identity, Input, Linear, Readout, Reset
from snnc.ir.store import graph_bytes
from snnc.learn.neurons import Normalize
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from snnc.simulate.floating import run_graph
from torch import nn


class Remembers(nn.Module):
    """Sets attributes and makes constants as it runs, as users' networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.last = None

    def forward(self, x, verbose=False):
        x = (x - torch.tensor(0.5)) / torch.tensor([0.25]).view(1, 1, 1, 1)
        self.last = self.norm(self.conv(x))
        return F.dropout(self.last, 0.5, training=self.training).flatten(1)


def mixed_modes() -> nn.Module:
    network = nn.Sequential(Remembers(), nn.Dropout(0.5), nn.Linear(2 * 4 * 4, 3))
    network.train()
    network[1].eval()
    return network


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    "work",
    [trace, lambda network: from_torch(network, input_shape=(1, 6, 6))],
    ids=["trace", "from_torch"],
)
def test_the_network_is_left_as_it_was(work):
    network = mixed_modes()
    attributes = {name: dict(vars(module)) for name, module in network.named_modules()}
    tensors = state(network)
    work(network)
    assert {name: dict(vars(module)) for name, module in network.named_modules()} == attributes
    assert all(torch.equal(network.state_dict()[name], tensors[name]) for name in tensors)
    assert [module.training for module in network.modules()] == [
        True,
        True,
        True,
        True,
        False,
        True,
    ]


def test_a_traced_network_has_the_modes_of_the_network():
    network = mixed_modes()
    traced = trace(network)
    assert traced.training
    assert traced.get_submodule("0.norm").training
    assert not traced.get_submodule("1").training


def test_the_mode_is_restored_when_tracing_fails():
    class Fails(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    network = nn.Sequential(nn.Dropout(), Fails()).train()
    with pytest.raises(Unsupported):
        from_torch(network, input_shape=(3,))
    assert network.training
    assert network[0].training


def test_evaluating_restores_every_mode_after_an_error():
    network = mixed_modes()
    modes = [module.training for module in network.modules()]
    with pytest.raises(RuntimeError), evaluating(network):
        assert not any(module.training for module in network.modules())
        raise RuntimeError
    assert [module.training for module in network.modules()] == modes


def test_a_traced_network_shares_the_weights_and_computes_the_same():
    network = mixed_modes().eval()
    traced = trace(network)
    images = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(traced(images), network(images))
    assert traced.get_parameter("0.conv.weight") is network[0].conv.weight
    assert torch.equal(copy.deepcopy(traced)(images), network(images))


def test_what_does_not_reach_the_output_is_left_out():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.extra = nn.Linear(4, 2), nn.MaxPool1d(2)

        def forward(self, x):
            self.extra(x)
            return self.main(x)

    graph = from_torch(Auxiliary(), input_shape=(4,))
    assert [node.name for node in graph.nodes] == ["input", "main", "readout"]


def test_a_layer_of_which_only_the_size_is_used_is_left_out():
    class Sizes(nn.Module):
        def __init__(self):
            super().__init__()
            self.probe, self.main = nn.Linear(4, 7), nn.Linear(4, 2)

        def forward(self, x):
            return self.main(x.view(self.probe(x).size(0), -1))

    graph = from_torch(Sizes(), input_shape=(4,))
    assert [node.name for node in graph.nodes] == ["input", "view", "main", "readout"]
    assert isinstance(graph["view"].op, Identity)


def test_the_users_names_come_first_and_all_names_differ():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.readout, self.input, self.add = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = self.readout(x) + self.input(x)
            return self.add(x + x)

    graph = from_torch(Named(), input_shape=(4,))
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    assert isinstance(graph["input"].op, Input)  # by this name synapses refer to the image
    assert isinstance(graph["readout"].op, Linear)
    assert isinstance(graph["add"].op, Linear)
    assert isinstance(graph["input_1"].op, Linear)
    assert isinstance(graph.nodes[-1].op, Readout)


def test_a_users_subclass_of_a_layer_converts_under_its_path():
    class Masked(nn.Linear):
        def forward(self, input):
            return F.linear(input, self.weight * (self.weight > 0), self.bias)

    network = nn.Sequential(nn.Sequential(Masked(6, 3)))
    graph = from_torch(network, input_shape=(6,))
    x = np.full((2, 6), 0.25)
    expected = network.double()(torch.from_numpy(x)).detach().numpy()
    assert isinstance(graph["0.0"].op, Linear)
    # The same sums in another order, of 6 terms near 0.1.
    assert np.abs(run_graph(graph, x) - expected).max() < 1e-12


def test_a_normalisation_module_gives_its_name_to_the_node():
    network = nn.Sequential()
    network.add_module("prepare", Normalize([0.5], [0.25]))
    network.add_module("flatten", nn.Flatten())
    graph = from_torch(network, input_shape=(1, 2, 2))
    assert [node.name for node in graph.nodes] == ["input", "prepare", "flatten", "readout"]
    assert graph["prepare"].op.mean.tolist() == [0.5]
    assert graph["prepare"].op.std.tolist() == [0.25]


def test_the_names_of_a_spiking_network_are_those_of_the_network_it_came_from():
    ann = nn.Sequential(Normalize([0.5], [0.5]), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten())
    network = to_spiking(
        ann,
        input_shape=(1, 4, 4),
        steps=2,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )
    names = [node.name for node in from_torch(network, input_shape=(1, 4, 4)).nodes]
    assert names == [node.name for node in from_torch(ann, input_shape=(1, 4, 4)).nodes]


def test_equal_networks_give_equal_files():
    network = mixed_modes()
    one, other = (from_torch(network, input_shape=(1, 6, 6)) for _ in range(2))
    assert graph_bytes(one) == graph_bytes(other)


def test_facts_about_the_run_are_kept():
    network = nn.Sequential(nn.Linear(4, 2))
    graph = from_torch(
        network, input_shape=(4,), class_names=("cat", "dog"), provenance={"seed": 7}
    )
    assert graph.class_names == ("cat", "dog")
    assert graph.provenance == {"seed": 7}
    assert from_torch(network, input_shape=(4,)).provenance == {}


def test_later_training_does_not_reach_into_the_graph():
    network = nn.Sequential(nn.Linear(4, 2))
    graph = from_torch(network, input_shape=(4,))
    before = graph["0"].op.bias.copy()
    with torch.no_grad():
        network[0].bias.add_(1.0)
    assert (graph["0"].op.bias == before).all()
