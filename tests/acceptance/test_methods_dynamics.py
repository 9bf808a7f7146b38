"""Acceptance tests 1 to 6 of METHODS section 7: surrogates and the dynamics of neurons.

The reference values were computed in float64, apart from this code, and are written with
six or seven digits.
"""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.attack.gradients import ThroughTime, spiking, through_rate
from snnc.attack.steps import Pgd, craft
from snnc.ir.graph import Granularity, Reset
from snnc.learn.neurons import Fire
from snnc.learn.spiking import to_spiking, view
from snnc.learn.surrogates import TRIANGLE, Surrogate, derivative, spike
from torch import nn

FEW = settings(max_examples=40, deadline=None)
DIGITS = 1e-6
WIDTHS = {
    "triangle": (1.0, 2.0, 3.0, 0.5, 0.25),
    "exp_damped": (0.5, 1.0, 2.0),
    "exp": (0.5, 1.0, 2.0),
    "box": (0.25, 0.5, 1.0, 2.0, 4.0),
    "straight_through": (1.0,),
}
PUBLISHED = [Surrogate(shape, width) for shape, widths in WIDTHS.items() for width in widths]


def neuron(*, steps, reset, surrogate=TRIANGLE, threshold=1.0):
    return Fire(
        threshold=torch.tensor(threshold, dtype=torch.float64),
        granularity=Granularity.LAYER,
        reset=reset,
        keep=1.0,
        steps=steps,
        surrogate=surrogate,
    )


def network():
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(64, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )
    spikes = to_spiking(
        ann,
        input_shape=(1, 4, 4),
        steps=5,
        reset=Reset.ZERO,
        keep=0.9,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )
    with torch.no_grad():
        for fire in spikes.fires.values():
            fire.threshold.fill_(0.3)  # so that both layers are lively
    return spikes


def images(samples=6):
    return torch.rand(samples, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("surrogate", PUBLISHED, ids=str)
def test_every_surrogate_spikes_exactly_where_the_threshold_is_reached(surrogate):
    """Test 1, forward: H(u) with H(0) = 1."""
    u = torch.tensor([-1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0])
    assert spike(u, surrogate).tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("surrogate", "expected"),
    [
        (Surrogate("triangle", 1.0), (0.5, 1, 0.8, 0)),
        (Surrogate("triangle", 2.0), (0.375, 0.5, 0.45, 0.25)),
        (Surrogate("triangle", 3.0), (0.277778, 0.333333, 0.311111, 0.222222)),
        (Surrogate("triangle", 0.5), (0, 2, 1.2, 0)),
        (Surrogate("triangle", 0.25), (0, 4, 0.8, 0)),
        (Surrogate("exp_damped", 2.0), (0.110364, 0.3, 0.201096, 0.040601)),
        (Surrogate("exp", 1.0), (0.606531, 1, 0.818731, 0.367879)),
        (Surrogate("box", 0.5), (0, 2, 2, 0)),
        (Surrogate("box", 1.0), (0, 1, 1, 0)),  # at -0.5 exactly: the inequality is strict
        (Surrogate("box", 4.0), (0.25, 0.25, 0.25, 0.25)),
        (Surrogate("straight_through", 1.0), (1, 1, 1, 1)),
    ],
    ids=str,
)
def test_the_backward_pass_of_a_spike_is_the_published_derivative(surrogate, expected):
    """Test 1, backward at u = (-0.5, 0, 0.2, 1.0)."""
    u = torch.tensor([-0.5, 0, 0.2, 1.0], dtype=torch.float64, requires_grad=True)
    spike(u, surrogate).sum().backward()
    assert u.grad.tolist() == pytest.approx(expected, abs=DIGITS)


@pytest.mark.parametrize("surrogate", PUBLISHED[:-1], ids=str)
def test_every_bounded_surrogate_has_the_published_area(surrogate):
    """Test 1, areas: PCW and RECT integrate to 1, EXP to 2 height / width."""
    heights = {"exp": 1.0, "exp_damped": 0.3}
    height = heights.get(surrogate.shape)
    area = 1.0 if height is None else 2 * height / surrogate.width
    u = torch.linspace(-40, 40, 800_001, dtype=torch.float64)
    # 1e-3: the box's edges fall between grid points of 1e-4 width, height up to 4
    assert torch.trapezoid(derivative(u, surrogate), u).item() == pytest.approx(area, abs=1e-3)


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        (Reset.ZERO, (0.2711776, -0.15336, 1.064, 0.9)),
        (Reset.SUBTRACT, (0.9916, 0.986, 0.86, 0.8)),
    ],
)
def test_gradients_flow_through_time_and_through_the_reset(reset, expected):
    """Test 2: d(sum of spikes)/dI for I = (.4, .7, .2, .9)."""
    current = torch.tensor([0.4, 0.7, 0.2, 0.9], dtype=torch.float64, requires_grad=True)
    spikes = neuron(steps=4, reset=reset)(current.reshape(4, 1))
    spikes.sum().backward()
    assert spikes.flatten().tolist() == [0, 1, 0, 1]
    assert current.grad.tolist() == pytest.approx(expected, abs=DIGITS)


@pytest.mark.parametrize(
    ("surrogate", "by_input", "by_threshold"),
    [
        (TRIANGLE, 4.964795, -3.097542),
        (Surrogate("exp_damped", 2.0), 2.089152, -1.045998),
        (Surrogate("exp", 1.0), 5.043954, -3.400683),
        (Surrogate("box", 1.0), 5.5072, -2.9296),
        (Surrogate("straight_through", 1.0), 5.546074, -4.595098),
        (Surrogate("box", 0.25), 0.0, 0.0),
    ],
    ids=str,
)
def test_a_shared_input_and_the_threshold_get_the_published_gradients(
    surrogate, by_input, by_threshold
):
    """Test 3: the same input .4 in all of 8 steps, threshold 1, hard reset."""
    x = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    fire = neuron(steps=8, reset=Reset.ZERO, surrogate=surrogate)
    fire(x.expand(8, 1)).sum().backward()
    assert x.grad.item() == pytest.approx(by_input, abs=DIGITS)
    assert fire.threshold.grad.item() == pytest.approx(by_threshold, abs=DIGITS)


def test_through_rate_a_gradient_passes_exactly_where_a_neuron_spiked():
    """Test 4: the gradient equals the upstream one where T steps held a spike, else 0."""
    draw = torch.Generator().manual_seed(2)
    ann = nn.Sequential(nn.Flatten(), nn.ReLU())
    spikes = to_spiking(
        ann,
        input_shape=(12,),
        steps=4,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )
    layer = through_rate(spikes).body
    current = torch.rand(4 * 5, 12, generator=draw) * 0.5
    upstream = torch.randn(4 * 5, 12, generator=draw)
    x = current.clone().requires_grad_()
    fired = layer(x)
    (gradient,) = torch.autograd.grad(fired, x, upstream)
    ever = fired.reshape(4, 5, 12).sum(0) > 0
    assert ever.any() and not ever.all()
    expected = upstream.reshape(4, 5, 12) * ever
    assert torch.equal(gradient, expected.reshape(4 * 5, 12))


def test_through_rate_the_forward_pass_is_the_same_bit_for_bit():
    """Test 4: forward, BPTR is BPTT, leak, thresholds and reset included."""
    spikes = network().eval()
    seen = through_rate(spikes)
    x = images().requires_grad_()
    assert torch.equal(seen(x), spikes(x))
    (gradient,) = torch.autograd.grad(seen(x).sum(), x)
    assert gradient.abs().sum() > 0
    assert [type(fire) for fire in spikes.fires.values()] == [Fire, Fire]


@FEW
@given(st.floats(-1.0, 2.0), st.floats(0.05, 2.0), st.integers(1, 64))
def test_with_a_soft_reset_rates_approach_the_clipped_relu(x, threshold, steps):
    """Test 5: |rate Vth - clip(x, 0, Vth)| <= Vth / T for all x and T."""
    fire = neuron(steps=steps, reset=Reset.SUBTRACT, threshold=threshold)
    rate = fire(torch.full((steps, 1), x, dtype=torch.float64)).mean().item()
    clipped = min(max(x, 0.0), threshold)
    # 1e-9 for sums of up to 64 float64 terms
    assert abs(rate * threshold - clipped) <= threshold / steps + 1e-9


@pytest.mark.parametrize(
    ("x", "rate"),
    [(0.3, 0.25), (0.6, 0.5), (0.75, 0.5), (0.99, 0.5), (1.0, 1.0), (3.0, 1.0), (0, 0), (-0.5, 0)],
)
def test_with_a_hard_reset_rates_are_the_published_ones_and_not_the_relu(x, rate):
    """Test 5: the limit is 1 / ceil(Vth / x); 0 if x <= 0 and 1 if x >= Vth."""
    fire = neuron(steps=400, reset=Reset.ZERO)
    assert fire(torch.full((400, 1), x, dtype=torch.float64)).mean().item() == rate


@FEW
@given(st.integers(1, 7), st.integers(1, 400))
def test_with_a_hard_reset_rates_are_one_over_a_whole_number(sixteenths, periods):
    """Test 5: 1 / ceil(Vth / x) for dyadic x, whose float sums are exact."""
    x = sixteenths / 16 + 1 / 64
    period = int(-(-1 // x))
    steps = period * min(periods, 64 // period)
    rate = neuron(steps=steps, reset=Reset.ZERO)(torch.full((steps, 1), x, dtype=torch.float64))
    assert rate.mean().item() == 1 / period


@pytest.mark.parametrize("surrogate", PUBLISHED, ids=str)
def test_another_surrogate_never_changes_the_logits(surrogate):
    """Test 6, logits."""
    spikes = network().eval()
    assert torch.equal(view(spikes, surrogate=surrogate)(images()), spikes(images()))


def test_an_attack_leaves_everything_about_the_network_as_it_was():
    """Test 6, state: T, modes, surrogates, batch statistics, gradients, random streams."""
    spikes = network().train()
    state = copy.deepcopy(spikes.state_dict())
    modes = [module.training for module in spikes.modules()]
    stream = torch.get_rng_state()
    sources = spiking(spikes, [ThroughTime(surrogate) for surrogate in PUBLISHED])
    found = craft(
        Pgd(eps=0.2, steps=2),
        [*sources, through_rate(spikes)],
        images(),
        torch.arange(6) % 3,
        generator=torch.Generator().manual_seed(0),
    )
    assert not torch.equal(found.images, images())
    assert all(torch.equal(state[name], value) for name, value in spikes.state_dict().items())
    assert [module.training for module in spikes.modules()] == modes and all(modes)
    assert [(f.steps, f.surrogate) for f in spikes.fires.values()] == [(5, TRIANGLE)] * 2
    assert all(parameter.grad is None for parameter in spikes.parameters())
    assert torch.equal(torch.get_rng_state(), stream)
