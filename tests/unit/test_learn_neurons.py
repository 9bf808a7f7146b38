import copy

import pytest
import torch
import torch.nn.functional as F
from snnc.errors import InvalidSetting, Unsupported
from snnc.frontend.tracing import trace
from snnc.ir.graph import Granularity, Reset
from snnc.learn.neurons import THRESHOLD_FLOOR, Fire, Normalize, expand, merge
from snnc.learn.spiking import SpikingNetwork, to_spiking, view
from snnc.learn.surrogates import TRIANGLE, Surrogate
from torch import nn

FIRE = {
    "granularity": Granularity.LAYER,
    "reset": Reset.ZERO,
    "keep": 1.0,
    "steps": 4,
    "surrogate": TRIANGLE,
}


class Residual(nn.Module):
    """One ReLU module called twice, and a functional one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.readout = nn.Linear(64, 3)

    def forward(self, images):
        x = self.relu(self.first(images))
        x = self.relu(x + self.norm(self.second(x)))
        return self.readout(F.relu(torch.flatten(x, 1)))


def residual():
    torch.manual_seed(0)
    return Residual()


def spiking(network, *, steps=4, reset=Reset.ZERO, keep=1.0, granularity=Granularity.LAYER):
    return to_spiking(
        network,
        input_shape=(1, 4, 4),
        steps=steps,
        reset=reset,
        keep=keep,
        granularity=granularity,
        surrogate=TRIANGLE,
    )


def images(samples=5):
    return torch.rand(samples, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_merging_is_time_major_and_expanding_inverts_it():
    steps = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    merged = merge(steps)
    assert merged[1 * 3 + 2].tolist() == steps[1, 2].tolist()
    assert torch.equal(expand(merged, 2), steps)


def test_a_neuron_fires_when_it_reaches_its_threshold_exactly():
    neuron = Fire(threshold=torch.tensor(1.0), **FIRE)
    assert neuron(torch.full((4, 1), 0.5)).flatten().tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("current", "rate"),
    [(0.3, 0.25), (0.6, 0.5), (0.75, 0.5), (0.99, 0.5), (1.0, 1.0), (3.0, 1.0), (-0.5, 0.0)],
)
def test_a_hard_reset_does_not_approach_the_relu(current, rate):
    neuron = Fire(threshold=torch.tensor(1.0), **{**FIRE, "steps": 400})
    assert neuron(torch.full((400, 1), current)).mean().item() == rate


def test_a_leaky_neuron_forgets():
    neuron = Fire(threshold=torch.tensor(1.0), **{**FIRE, "keep": 0.5})
    # v: 0.6, 0.9, 1.05 (spike), 0.6
    assert neuron(torch.full((4, 1), 0.6)).flatten().tolist() == [0, 0, 1, 0]


def test_each_channel_has_its_own_threshold():
    neuron = Fire(
        threshold=torch.tensor([0.5, 2.0]), **{**FIRE, "granularity": Granularity.CHANNEL}
    )
    spikes = neuron(torch.full((4, 2, 3, 3), 0.5))
    assert spikes.sum((0, 2, 3)).tolist() == [4 * 9, 9]


def test_no_neuron_runs_below_the_floor_whatever_is_stored():
    neuron = Fire(threshold=torch.tensor(-5.0), **FIRE)
    assert neuron(torch.full((4, 1), THRESHOLD_FLOOR * 0.9)).flatten().tolist() == [0, 1, 0, 1]


def test_state_does_not_survive_a_call():
    neuron = Fire(threshold=torch.tensor(1.0), **FIRE)
    current = torch.full((4, 1), 0.4)
    assert torch.equal(neuron(current), neuron(current))


@pytest.mark.parametrize("setting", [{"steps": 0}, {"keep": 1.5}, {"keep": -0.1}])
def test_impossible_neurons_are_refused(setting):
    with pytest.raises(InvalidSetting):
        Fire(threshold=torch.tensor(1.0), **{**FIRE, **setting})


def test_normalisation_traces_into_a_difference_and_a_quotient():
    traced = trace(nn.Sequential(Normalize([0.5], [0.25]), nn.Flatten()))
    names = [getattr(node.target, "__name__", node.target) for node in traced.graph.nodes]
    assert "sub" in names and "truediv" in names


def test_normalisation_refuses_a_deviation_of_zero():
    with pytest.raises(InvalidSetting, match="above 0"):
        Normalize([0.5], [0.0])


def test_every_call_of_a_relu_becomes_a_layer_of_its_own():
    network = spiking(residual())
    assert list(network.fires) == ["relu", "relu_1", "relu_2"]
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())


def test_conversion_copies_weights_and_leaves_the_network_alone():
    ann = residual()
    before = copy.deepcopy(ann.state_dict())
    network = spiking(ann)
    with torch.no_grad():
        network.body.get_submodule("first").weight.zero_()
        network.fires["relu"].threshold.fill_(3)
    assert all(torch.equal(before[name], value) for name, value in ann.state_dict().items())


@pytest.mark.parametrize(
    ("granularity", "shapes"),
    [
        (Granularity.LAYER, [(), (), ()]),
        (Granularity.CHANNEL, [(4,), (4,), (64,)]),
        (Granularity.NEURON, [(4, 4, 4), (4, 4, 4), (64,)]),
    ],
)
def test_thresholds_have_the_shape_of_their_granularity(granularity, shapes):
    network = spiking(residual(), granularity=granularity)
    assert [tuple(fire.threshold.shape) for fire in network.fires.values()] == shapes
    assert network.eval()(images()).shape == (5, 3)


def test_a_network_without_relu_cannot_spike():
    with pytest.raises(Unsupported, match="no ReLU"):
        spiking(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))


def test_control_flow_on_data_is_refused_with_its_reason():
    class Branching(nn.Module):
        def forward(self, x):
            return torch.relu(x) if x.sum() > 0 else x

    with pytest.raises(Unsupported, match="control flow depends on the data"):
        spiking(Branching())


def test_logits_are_the_mean_over_the_steps():
    network = spiking(residual()).eval()
    merged = torch.cat([images()] * 4)
    expected = expand(network.body(merged), 4).mean(0)
    assert torch.equal(network(images()), expected)


def test_one_step_of_time_is_one_pass():
    network = spiking(residual(), steps=1).eval()
    assert torch.equal(network(images()), network.body(images()))


def test_a_network_that_ends_in_spikes_answers_with_mean_counts():
    network = spiking(nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.ReLU()))
    counts = network(images()) * 4
    assert torch.equal(counts, counts.round())


def test_relu_in_place_of_each_neuron_gives_back_the_logits_of_the_source():
    ann = residual().eval()
    network = spiking(ann, steps=1).eval()
    for name in network.fires:
        network.body.set_submodule(name, nn.ReLU())
    # float32 sums over 36 products in the same order: nothing to round differently
    assert torch.equal(network(images()), ann(images()))


def test_batch_norm_sees_steps_and_samples_as_one_batch():
    network = spiking(residual()).train()
    seen = []
    norm = network.body.get_submodule("norm")
    norm.register_forward_hook(lambda _m, inputs, output: seen.append((inputs[0], output)))
    network(images())
    ((merged, normalised),) = seen
    assert merged.shape[0] == 4 * 5
    expected = F.batch_norm(merged, None, None, norm.weight, norm.bias, training=True)
    assert torch.equal(normalised, expected)


def test_folded_batch_norm_reproduces_the_logits():
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
    ).double()
    network = spiking(ann)
    network.train()(images().double())  # statistics that are not 0 and 1
    network.eval()
    folded = copy.deepcopy(network)
    convolution, norm = folded.body.get_submodule("0"), folded.body.get_submodule("1")
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    convolution.weight.data *= gain[:, None, None, None]
    convolution.bias = nn.Parameter(norm.bias - gain * norm.running_mean)
    folded.body.set_submodule("1", nn.Identity())
    # float64: the two orders of the same sums
    torch.testing.assert_close(
        folded(images().double()), network(images().double()), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("surrogate", [Surrogate("exp", 2.0), Surrogate("box", 0.5), TRIANGLE])
def test_a_view_with_another_surrogate_computes_the_same_logits(surrogate):
    network = spiking(residual()).eval()
    assert torch.equal(view(network, surrogate=surrogate)(images()), network(images()))


def test_attacking_a_view_leaves_the_network_as_it_was():
    network = spiking(residual()).train()
    state, modes = copy.deepcopy(network.state_dict()), [m.training for m in network.modules()]
    seen = view(network, surrogate=Surrogate("exp", 2.0))
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(seen(x).sum(), x)
    assert gradient.abs().sum() > 0
    assert [m.training for m in network.modules()] == modes
    assert not any(m.training for m in seen.modules())
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert {f.surrogate for f in network.fires.values()} == {TRIANGLE}
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_view_follows_the_parameters_of_its_network():
    network = spiking(residual()).eval()
    seen = view(network, surrogate=TRIANGLE)
    with torch.no_grad():
        network.body.get_submodule("readout").bias.add_(1)
    assert isinstance(seen, SpikingNetwork)
    assert torch.equal(seen(images()), network(images()))
