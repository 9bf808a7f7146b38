import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.ir.graph import Granularity, Reset
from snnc.learn.neurons import Fire
from snnc.learn.objectives.perturbation import ascend, project, uniform_start
from snnc.learn.objectives.rfgsm import rfgsm
from snnc.learn.prune.magnitude import kept, magnitude_mask
from snnc.learn.surrogates import TRIANGLE
from torch import nn

FEW = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**31)
epsilons = st.floats(1e-4, 1.0)


def network_and_images(seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3))
    # values at both ends of the range as well, where clipping happens
    return network, (torch.rand(4, 1, 3, 3) * 1.4 - 0.2).clamp(0, 1)


def assert_within(moved, images, epsilon):
    assert (moved - images).abs().max() <= epsilon + 1e-6  # float32 rounding of x + epsilon
    assert moved.min() >= 0 and moved.max() <= 1


@FEW
@given(seeds, epsilons)
def test_every_attack_stays_within_epsilon_and_within_the_pixels(seed, epsilon):
    network, images = network_and_images(seed)
    draw = torch.Generator().manual_seed(seed)
    start = uniform_start(images, epsilon, draw)
    found = ascend(
        network, lambda y: y[:, 0].sum(), images, start, epsilon=epsilon, step=epsilon, steps=3
    )
    assert_within(start, images, epsilon)
    assert_within(found, images, epsilon)
    assert_within(rfgsm(network, images, epsilon, draw), images, epsilon)


@FEW
@given(seeds, epsilons)
def test_projection_keeps_what_is_already_inside(seed, epsilon):
    _, images = network_and_images(seed)
    inside = uniform_start(images, epsilon / 2, torch.Generator().manual_seed(seed))
    # (moved - images) + images is not exact in float32 near 1
    torch.testing.assert_close(project(inside, images, epsilon), inside, rtol=0, atol=1e-7)


@FEW
@given(st.floats(0.01, 2.0), st.floats(0.05, 2.0), st.integers(1, 64))
def test_soft_reset_rates_approach_the_clipped_relu(x, threshold, steps):
    neuron = Fire(
        threshold=torch.tensor(threshold, dtype=torch.float64),
        granularity=Granularity.LAYER,
        reset=Reset.SUBTRACT,
        keep=1.0,
        steps=steps,
        surrogate=TRIANGLE,
    )
    rate = neuron(torch.full((steps, 1), x, dtype=torch.float64)).mean().item()
    # one spike more or less; 1e-9 for sums of up to 64 float64 terms
    assert abs(rate * threshold - min(x, threshold)) <= threshold / steps + 1e-9


@FEW
@given(st.integers(1, 7), st.integers(1, 400))
def test_hard_reset_rates_are_one_over_a_whole_number(sixteenths, periods):
    x = sixteenths / 16 + 1 / 64  # a dyadic current: float sums are exact, no accidental ties
    period = -(-1 // x)
    steps = int(period) * min(periods, 64 // int(period))
    neuron = Fire(
        threshold=torch.tensor(1.0),
        granularity=Granularity.LAYER,
        reset=Reset.ZERO,
        keep=1.0,
        steps=steps,
        surrogate=TRIANGLE,
    )
    assert neuron(torch.full((steps, 1), x)).mean().item() == torch.tensor(1 / period).item()


@FEW
@given(st.integers(1, 3000), st.floats(0, 0.999))
def test_a_mask_keeps_the_counted_number_of_largest_weights(weights, sparsity):
    weight = torch.randn(weights, generator=torch.Generator().manual_seed(weights))
    mask = magnitude_mask(weight, sparsity)
    assert int(mask.sum()) == kept(weights, sparsity)
    assert abs(int(mask.sum()) - (1 - sparsity) * weights) < 1 + 1e-6  # within one weight
    if 0 < int(mask.sum()) < weights:
        assert weight[mask].abs().min() >= weight[~mask].abs().max()
