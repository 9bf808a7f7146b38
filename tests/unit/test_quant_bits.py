"""Widths and scales that a user gives: what they make of a layer, and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
from snnc.errors import InvalidGraph, InvalidSetting, UnknownName
from snnc.ir.check import check_graph
from snnc.ir.graph import (
    Decision,
    Fire,
    Granularity,
    Graph,
    Input,
    Linear,
    Node,
    Readout,
    Reset,
)
from snnc.ir.weights import Dense, floats, unpack
from snnc.passes.numbers import Bits, Numbers
from snnc.passes.populations import populations
from snnc.passes.quantize import coding_of, quantize
from snnc.passes.scale import Limit, at_scale, formats, largest_scale, limit_of

NUMBERS = Numbers()


def network(hidden, *, bias=0.0, threshold=1.0, reset=Reset.ZERO, keep=1.0):
    """Return pixels -> spikes -> a layer with these weights -> two logits, already prepared."""
    hidden = np.atleast_2d(hidden)
    rows, inputs = hidden.shape
    fire = Fire(threshold=floats(threshold), granularity=Granularity.LAYER, reset=reset, keep=keep)
    return check_graph(
        Graph(
            nodes=(
                Node("input", Input(shape=(inputs,)), ()),
                Node("first", linear(np.eye(inputs)), ("input",)),
                Node("spikes", fire, ("first",)),
                Node("hidden", linear(hidden, bias), ("spikes",)),
                Node("fire", fire, ("hidden",)),
                Node("last", linear(np.ones((2, rows))), ("fire",)),
                Node("out", Readout(decision=Decision.MEMBRANE), ("last",)),
            ),
            steps=4,
        )
    )


def linear(weight, bias=0.0):
    weight = np.asarray(weight, dtype=float)
    return Linear(weight=Dense(floats(weight)), bias=floats(np.full(len(weight), bias)))


def hidden_of(program):
    return next(layer for layer in program.layers if layer.name == "hidden")


def weights_of(program):
    return unpack(hidden_of(program).synapses[0].weight).tolist()


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (6, 31), (4, 7), (2, 1)])
def test_the_largest_weight_gets_the_largest_integer_of_the_width(bits, largest):
    program = quantize(network([0.5, -0.25, 0.125]), NUMBERS, bits=Bits(others=bits))
    scale = largest / 0.5
    assert hidden_of(program).scale == scale
    assert weights_of(program) == [np.rint([largest, -largest / 2, largest / 4]).tolist()]


def test_a_layer_may_have_a_width_of_its_own():
    graph = network([0.5, -0.25, 0.125])
    program = quantize(graph, NUMBERS, bits=Bits(others=8, layers={"hidden": 2}))
    assert weights_of(program) == [[1, 0, 0]]  # the half rounds to the even 0
    assert np.abs(unpack(program.layers[0].synapses[0].weight)).max() > 1
    assert np.abs(unpack(program.readout.synapses[0].weight)).max() == 127


def test_the_full_width_gives_the_integers_of_no_width():
    graph = network([[0.5, -0.25, 0.125], [0.3, 0.9, -0.7]], bias=0.1)
    plain, asked = quantize(graph, NUMBERS), quantize(graph, NUMBERS, bits=Bits(others=8))
    for one, other in zip(plain.populations, asked.populations, strict=True):
        assert one.scale == other.scale
        np.testing.assert_array_equal(one.bias, other.bias)
        np.testing.assert_array_equal(
            unpack(one.synapses[0].weight), unpack(other.synapses[0].weight)
        )


def test_weights_above_the_threshold_saturate_where_the_width_leaves_it_no_unit():
    program = quantize(network([3.0, 0.9, -0.3]), NUMBERS, bits=Bits(others=2))
    assert hidden_of(program).scale == 1.0
    assert hidden_of(program).threshold == 1  # one unit: the form 64 (1 - 1) + 1
    assert weights_of(program) == [[1, 1, 0]]


def test_without_a_width_nothing_ever_saturates():
    with pytest.raises(InvalidGraph, match=r"hidden: its threshold is 0\.423 units"):
        quantize(network([300.0, 90.0]), NUMBERS)


def test_at_a_scale_that_is_given_weights_beyond_the_format_saturate_and_zeros_stay():
    program = quantize(
        network([0.5, -0.5, 0.1, 0.0]), NUMBERS, bits=Bits(others=4), scales={"hidden": 20.0}
    )
    assert weights_of(program) == [[7, -7, 2, 0]]
    assert hidden_of(program).threshold == 64 * 19 + 1


@pytest.mark.parametrize(
    ("reset", "keep", "threshold"),
    [(Reset.ZERO, 1.0, 64 * 9 + 1), (Reset.ZERO, 0.5, 64 * 10 + 1), (Reset.SUBTRACT, 1.0, 666)],
)
def test_the_threshold_keeps_its_form_at_a_given_scale(reset, keep, threshold):
    graph = network([0.5, 0.1], reset=reset, keep=keep)
    layer = hidden_of(quantize(graph, NUMBERS, scales={"hidden": 10.4}))
    assert layer.threshold == threshold


@pytest.mark.parametrize(
    ("bias", "scale", "message"),
    [
        (40.0, 200.0, "hidden: at 200 integer units for one, its bias reaches 8000, the limit is "
                      "4095"),
        (0.0, 20000.0, "its threshold leaves the membrane no room for 8 of it below 0"),
        (0.0, 0.5, "its threshold is 0.5 units"),
        (0.0, 1e-3, "hidden: every weight rounds to 0"),
    ],
)  # fmt: skip
def test_a_scale_that_breaks_a_format_is_refused_with_place_and_limit(bias, scale, message):
    with pytest.raises(InvalidGraph, match=re.escape(message)):
        quantize(network([0.5, 0.1], bias=bias), NUMBERS, scales={"hidden": scale})


@pytest.mark.parametrize(("layer", "remedy"), [("first", "levels"), ("hidden", "calibration")])
def test_weights_that_vanish_are_refused_with_a_remedy_for_what_they_read(layer, remedy):
    with pytest.raises(InvalidGraph) as refusal:
        quantize(network([0.5, 0.1]), NUMBERS, scales={layer: 1e-3})
    (lost,) = (issue for issue in refusal.value.issues if "rounds to 0" in issue.problem)
    assert lost.layer == layer
    assert ("fewer levels" in lost.remedy) == (remedy == "levels")
    assert ("calibration" in lost.remedy) == (remedy == "calibration")


@pytest.mark.parametrize(
    ("hidden", "bias", "threshold", "numbers", "limit"),
    [
        ([0.5, 0.1], 0.0, 1.0, NUMBERS, Limit.WEIGHTS),
        ([0.5, 0.1], 50.0, 1.0, NUMBERS, Limit.BIAS),
        ([0.5, 0.1], 0.0, 100.0, NUMBERS, Limit.THRESHOLD),
        ([0.5] * 2000, 0.0, 1.0, NUMBERS, Limit.CURRENT),
    ],
)
def test_the_format_that_limits_a_scale_is_named(hidden, bias, threshold, numbers, limit):
    graph = network(hidden, bias=bias, threshold=threshold)
    found = populations(graph, coding_of(graph, 255))[1]
    limits = formats(found, numbers, bits=None, steps=graph.steps)
    assert limit_of(found, limits) is limit


def test_a_current_that_rounding_makes_too_large_limits_the_scale():
    """At 42 units 21 + 10 * 10.71 fits 130, but 21 + 10 * 11 does not."""
    graph = network([0.5] + [0.255] * 10)
    found = populations(graph, coding_of(graph, 255))[1]
    limits = replace(formats(found, NUMBERS, bits=None, steps=4), weight_max=21, current_max=130)
    assert limit_of(found, limits) is Limit.CURRENT
    scale = largest_scale(found, limits)
    assert 41 < scale < 42
    whole = at_scale(found, limits, scale)  # refuses a current beyond the limit
    assert np.abs(unpack(whole.synapses[0].weight)).sum() <= 130
    roomy = replace(limits, current_max=131)
    assert (limit_of(found, roomy), largest_scale(found, roomy)) == (Limit.WEIGHTS, 42.0)


def test_the_current_of_the_image_is_a_limit_of_its_own():
    graph = network(np.full(8, 0.5))
    found = populations(graph, coding_of(graph, 255))[0]
    limits = formats(found, Numbers(image_current_max=4095), bits=None, steps=4)
    assert limit_of(found, limits) is Limit.IMAGE_CURRENT
    few = populations(graph, coding_of(graph, 7))[0]
    assert limit_of(few, limits) is Limit.WEIGHTS


def test_a_current_that_could_wrap_is_refused_with_need_and_limit():
    graph = network(np.full(2000, 0.5))
    with pytest.raises(InvalidGraph) as refusal:
        quantize(graph, NUMBERS, scales={"hidden": 1000.0})
    (issue,) = refusal.value.issues
    assert (issue.layer, issue.code) == ("hidden", "current-range")
    assert (issue.need, issue.limit) == (2000 * 127, 131071)


@pytest.mark.parametrize("bits", [1, 9, 0, -3])
def test_a_width_that_the_target_does_not_have_is_refused(bits):
    with pytest.raises(InvalidSetting, match=f"weights of {bits} bits .* has 2 to 8"):
        quantize(network([0.5]), NUMBERS, bits=Bits(others=bits))
    with pytest.raises(InvalidSetting, match=f"weights of {bits} bits"):
        quantize(network([0.5]), NUMBERS, bits=Bits(others=8, layers={"hidden": bits}))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_no_positive_number_is_refused(scale):
    with pytest.raises(InvalidSetting, match="the scale of hidden is"):
        quantize(network([0.5]), NUMBERS, scales={"hidden": scale})


def test_a_misspelt_layer_gets_a_suggestion():
    with pytest.raises(UnknownName, match="no layer named 'hiden'; did you mean 'hidden'"):
        quantize(network([0.5]), NUMBERS, scales={"hiden": 1.0})
    with pytest.raises(UnknownName, match="no layer named 'lst'; did you mean 'last'"):
        quantize(network([0.5]), NUMBERS, bits=Bits(others=8, layers={"lst": 4}))
