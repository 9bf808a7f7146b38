"""The trained neuron against the specification: the same spikes, wherever floats are exact.

And all its steps at once against the plain loop over steps: the same gradients, too.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.ir.graph import Granularity, Reset
from snnc.learn import dynamics
from snnc.learn.neurons import THRESHOLD_FLOOR, Fire
from snnc.learn.overtime import repeated
from snnc.learn.surrogates import TRIANGLE, Surrogate, spike
from snnc.semantics.neuron import ALIGN, step

STEPS = 6
SURROGATES = [
    TRIANGLE,
    Surrogate("exp", 2.0),
    Surrogate("exp_damped", 0.5),
    Surrogate("box", 1.0),
    Surrogate("straight_through", 1.0),
]
UNIT = 1 << ALIGN  # one unit of current, in units of the specification's membrane


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(-500, 500), min_size=1, max_size=32),
    st.integers(1, 600),
    st.sampled_from(list(Reset)),
)
def test_a_float_neuron_without_leak_spikes_as_specified(currents, threshold, reset):
    neuron = Fire(
        threshold=torch.tensor(float(threshold)),
        granularity=Granularity.LAYER,
        reset=reset,
        keep=1.0,
        steps=len(currents),
        surrogate=TRIANGLE,
    )
    spikes = neuron(torch.tensor(currents, dtype=torch.float32)[:, None]).flatten().bool()
    expected, v = [], 0
    for current in currents:
        _, v, fired = step(
            0,
            v,
            current,
            current_decay=4096,
            bias=0,
            threshold=threshold * UNIT,
            decay=0,
            reset=reset,
        )
        expected.append(fired)
    # whole numbers below 2**24 are exact in float32
    assert spikes.tolist() == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-200, 200), min_size=1, max_size=6),
    st.integers(1, 200),
    st.sampled_from(list(Reset)),
)
def test_a_float_neuron_that_forgets_half_spikes_as_specified(currents, threshold, reset):
    neuron = Fire(
        threshold=torch.tensor(float(threshold)),
        granularity=Granularity.LAYER,
        reset=reset,
        keep=0.5,
        steps=len(currents),
        surrogate=TRIANGLE,
    )
    spikes = neuron(torch.tensor(currents, dtype=torch.float32)[:, None]).flatten().bool()
    expected, v = [], 0
    for current in currents:
        _, v, fired = step(
            0,
            v,
            current,
            current_decay=4096,
            bias=0,
            threshold=threshold * UNIT,
            decay=2048,
            reset=reset,
        )
        expected.append(fired)
    # at most six halvings of multiples of 64: the specification rounds nothing either
    assert spikes.tolist() == expected


def looped(current, neuron, floor):
    """Return the spikes by autograd of each operation of the equations, step by step."""
    threshold = neuron.threshold.clamp(min=floor)
    if neuron.granularity is Granularity.CHANNEL:
        threshold = threshold.reshape(-1, *(1,) * (current.dim() - 2))
    v, train = torch.zeros_like(current[: len(current) // neuron.steps]), []
    for x in current.unflatten(0, (neuron.steps, -1)):
        v = neuron.keep * v + x
        spikes = spike(v - threshold, neuron.surrogate)
        train.append(spikes)
        v = v * (1 - spikes) if neuron.reset is Reset.ZERO else v - threshold * spikes
    return torch.cat(train)


def both(neuron, current, arriving, *, constant):
    """Return spikes, and the gradients of current and threshold: as it runs, and looped."""
    answers = []
    for function in (
        lambda x: neuron(x, constant=constant),
        lambda x: looped(repeated(x, STEPS) if constant else x, neuron, THRESHOLD_FLOOR),
    ):
        x = current.clone().requires_grad_()
        spikes = function(x)
        gradients = torch.autograd.grad(spikes, (x, neuron.threshold), arriving)
        answers.append((spikes.detach(), *gradients))
    return answers


@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize("keep", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.shape)
@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("constant", [False, True])
def test_all_steps_at_once_are_the_steps_one_by_one(
    reset, keep, surrogate, granularity, constant, monkeypatch
):
    monkeypatch.setattr(dynamics, "PIECE", 2 * 3 * 4 * 5 // torch.get_num_threads() + 1)
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    samples, shape = 5, (3, 4, 5)
    current = torch.randn((samples if constant else STEPS * samples, *shape), **draw) * 0.7
    if granularity is not Granularity.LAYER:  # the other layout in memory
        current = current.contiguous(memory_format=torch.channels_last)
    shapes = {Granularity.LAYER: (), Granularity.CHANNEL: (3,), Granularity.NEURON: shape}
    threshold = torch.rand(shapes[granularity], **draw) * 0.6 + 0.2
    if granularity is not Granularity.LAYER:
        threshold[0] = THRESHOLD_FLOOR / 2  # runs at the floor and has no gradient
    neuron = Fire(
        threshold=threshold,
        granularity=granularity,
        reset=reset,
        keep=keep,
        steps=STEPS,
        surrogate=surrogate,
    )
    ours, true = both(
        neuron, current, torch.randn((STEPS * samples, *shape), **draw), constant=constant
    )
    assert torch.equal(ours[0], true[0]) and 0.1 < ours[0].mean() < 0.9
    for gradient, expected in zip(ours[1:], true[1:], strict=True):
        # float64 in another order of sums
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-11)
    with torch.no_grad():
        assert torch.equal(neuron(current, constant=constant), ours[0])


@pytest.mark.parametrize("reset", list(Reset))
def test_membranes_of_bfloat16_currents_are_float32(reset):
    generator = torch.Generator().manual_seed(0)
    current = torch.randn(STEPS * 9, 7, generator=generator).bfloat16()
    neuron = Fire(
        threshold=torch.tensor(0.4),
        granularity=Granularity.LAYER,
        reset=reset,
        keep=0.9,
        steps=STEPS,
        surrogate=TRIANGLE,
    )
    rounded, precise = current.requires_grad_(), current.detach().float().requires_grad_()
    spikes = neuron(rounded)
    assert spikes.dtype == torch.bfloat16
    assert torch.equal(spikes.float(), neuron(precise))
    arriving = torch.randn(spikes.shape, generator=generator).bfloat16()
    (ours,) = torch.autograd.grad(spikes, rounded, arriving)
    (true,) = torch.autograd.grad(neuron(precise), precise, arriving.float())
    assert torch.equal(ours, true.bfloat16())


def test_a_gradient_of_the_threshold_alone_and_of_the_current_alone():
    generator = torch.Generator().manual_seed(0)
    current = torch.randn(STEPS * 2, 3, generator=generator)
    neuron = Fire(
        threshold=torch.tensor(0.4),
        granularity=Granularity.LAYER,
        reset=Reset.ZERO,
        keep=1.0,
        steps=STEPS,
        surrogate=TRIANGLE,
    )
    x = current.clone().requires_grad_()
    wanted = torch.autograd.grad(neuron(x).sum(), (x, neuron.threshold))
    (alone,) = torch.autograd.grad(neuron(current).sum(), neuron.threshold)
    assert torch.equal(alone, wanted[1])
    neuron.threshold.requires_grad_(False)
    (alone,) = torch.autograd.grad(neuron(x).sum(), x)
    assert torch.equal(alone, wanted[0])
