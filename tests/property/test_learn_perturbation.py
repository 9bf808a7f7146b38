import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.learn.objectives.perturbation import ascend, normal_start, project, uniform_start
from snnc.learn.objectives.rfgsm import rfgsm
from snnc.learn.prune.counts import kept
from snnc.learn.prune.magnitude import magnitude_mask
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
    near = normal_start(images, draw)
    found_from_noise = ascend(
        network, lambda y: y[:, 0].sum(), images, near, epsilon=epsilon, step=0.0, steps=1
    )
    assert_within(found_from_noise, images, epsilon)
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
@given(st.integers(1, 3000), st.floats(0, 0.999))
def test_a_mask_keeps_the_counted_number_of_largest_weights(weights, sparsity):
    weight = torch.randn(weights, generator=torch.Generator().manual_seed(weights))
    mask = magnitude_mask(weight, sparsity)
    assert int(mask.sum()) == kept(weights, sparsity)
    assert abs(int(mask.sum()) - (1 - sparsity) * weights) < 1 + 1e-6  # within one weight
    if 0 < int(mask.sum()) < weights:
        assert weight[mask].abs().min() >= weight[~mask].abs().max()
