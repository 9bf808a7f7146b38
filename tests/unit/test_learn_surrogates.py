"""The reference values are those of METHODS section 7, tests 1 to 3, computed in float64."""

import math

import pytest
import torch
from snnc.errors import InvalidSetting
from snnc.ir.graph import Granularity, Reset
from snnc.learn.neurons import Fire
from snnc.learn.surrogates import TRIANGLE, Surrogate, derivative, spike

DIGITS = 1e-6  # the reference values are written with six or seven digits
ALL = [
    Surrogate(shape, width)
    for shape in ("triangle", "exp", "exp_damped", "box", "straight_through")
    for width in (0.25, 1.0, 2.0)
]


def fire(*, steps, reset, surrogate=TRIANGLE, threshold=1.0, keep=1.0):
    return Fire(
        threshold=torch.tensor(threshold, dtype=torch.float64),
        granularity=Granularity.LAYER,
        reset=reset,
        keep=keep,
        steps=steps,
        surrogate=surrogate,
    )


@pytest.mark.parametrize("surrogate", ALL)
def test_every_surrogate_spikes_exactly_where_u_is_not_negative(surrogate):
    u = torch.tensor([-1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0])
    assert spike(u, surrogate).tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "width", "expected"),
    [
        ("triangle", 1.0, (0.5, 1, 0.8, 0)),
        ("triangle", 2.0, (0.375, 0.5, 0.45, 0.25)),
        ("triangle", 3.0, (0.277778, 0.333333, 0.311111, 0.222222)),
        ("triangle", 0.5, (0, 2, 1.2, 0)),
        ("triangle", 0.25, (0, 4, 0.8, 0)),
        ("exp_damped", 2.0, (0.110364, 0.3, 0.201096, 0.040601)),
        ("exp", 1.0, (0.606531, 1, 0.818731, 0.367879)),
        ("box", 0.5, (0, 2, 2, 0)),
        ("box", 4.0, (0.25, 0.25, 0.25, 0.25)),
        ("straight_through", 1.0, (1, 1, 1, 1)),
    ],
)
def test_the_backward_pass_is_the_published_derivative(shape, width, expected):
    u = torch.tensor([-0.5, 0, 0.2, 1.0], dtype=torch.float64, requires_grad=True)
    spike(u, Surrogate(shape, width)).sum().backward()
    assert u.grad.tolist() == pytest.approx(expected, abs=DIGITS)


def test_the_box_ends_before_half_its_width():
    edge = torch.tensor([-0.5, 0.5])
    assert derivative(edge, Surrogate("box", 1.0)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("surrogate", "area"),
    [
        *((Surrogate("triangle", w), 1.0) for w in (0.25, 1.0, 3.0)),
        *((Surrogate("box", w), 1.0) for w in (0.25, 1.0, 4.0)),
        (Surrogate("exp", 2.0), 1.0),
        (Surrogate("exp_damped", 0.5), 1.2),
    ],
)
def test_the_derivative_integrates_to_the_height_of_the_step(surrogate, area):
    u = torch.linspace(-40, 40, 800_001, dtype=torch.float64)
    # 1e-3: the box's edges fall between grid points of 1e-4 width, height up to 4
    assert torch.trapezoid(derivative(u, surrogate), u).item() == pytest.approx(area, abs=1e-3)


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan, math.inf])
def test_a_width_that_is_not_a_positive_number_is_refused(width):
    with pytest.raises(InvalidSetting, match="width"):
        Surrogate("triangle", width)


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        (Reset.ZERO, (0.2711776, -0.15336, 1.064, 0.9)),
        (Reset.SUBTRACT, (0.9916, 0.986, 0.86, 0.8)),
    ],
)
def test_gradients_flow_through_time_and_through_the_reset(reset, expected):
    current = torch.tensor([0.4, 0.7, 0.2, 0.9], dtype=torch.float64, requires_grad=True)
    spikes = fire(steps=4, reset=reset)(current.reshape(4, 1))
    spikes.sum().backward()
    assert spikes.flatten().tolist() == [0, 1, 0, 1]
    assert current.grad.tolist() == pytest.approx(expected, abs=DIGITS)


@pytest.mark.parametrize(
    ("surrogate", "input_slope", "threshold_slope"),
    [
        (TRIANGLE, 4.964795, -3.097542),
        (Surrogate("exp_damped", 2.0), 2.089152, -1.045998),
        (Surrogate("exp", 1.0), 5.043954, -3.400683),
        (Surrogate("box", 1.0), 5.5072, -2.9296),
        (Surrogate("straight_through", 1.0), 5.546074, -4.595098),
        (Surrogate("box", 0.25), 0.0, 0.0),
    ],
)
def test_a_shared_input_and_the_threshold_get_the_published_gradients(
    surrogate, input_slope, threshold_slope
):
    x = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    neuron = fire(steps=8, reset=Reset.ZERO, surrogate=surrogate)
    neuron(x.expand(8, 1)).sum().backward()
    assert x.grad.item() == pytest.approx(input_slope, abs=DIGITS)
    assert neuron.threshold.grad.item() == pytest.approx(threshold_slope, abs=DIGITS)
