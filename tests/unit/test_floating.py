"""The float simulator computes what can be worked out by hand."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.errors import InvalidSetting
from snnc.ir.check import check_graph
from snnc.ir.graph import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Decision,
    Fire,
    Flatten,
    Granularity,
    Graph,
    Identity,
    Input,
    Linear,
    Node,
    Normalize,
    Readout,
    Relu,
    Reset,
)
from snnc.ir.weights import Dense, floats, sparse
from snnc.simulate.floating import activations, run_graph


def chain(*ops, shape, steps=1, decision=Decision.MEMBRANE):
    nodes = [Node("input", Input(shape=shape), ())]
    for i, op in enumerate(ops):
        nodes.append(Node(f"n{i}", op, (nodes[-1].name,)))
    nodes.append(Node("out", Readout(decision=decision), (nodes[-1].name,)))
    return check_graph(Graph(nodes=tuple(nodes), steps=steps))


def linear(weight, bias):
    return Linear(weight=Dense(floats(weight)), bias=floats(bias))


def conv(weight, *, stride=(1, 1), padding=(0, 0), groups=1):
    return Conv2d(
        weight=Dense(floats(weight)),
        bias=floats(np.zeros(len(weight))),
        stride=stride,
        padding=padding,
        groups=groups,
    )


def fire(reset, *, threshold=1.0, keep=1.0, granularity=Granularity.LAYER):
    return Fire(threshold=floats(threshold), granularity=granularity, reset=reset, keep=keep)


def rate(current, *, reset, threshold=1.0, steps):
    """Return the spikes per step of one neuron; the pixel is 1 and the weight the current."""
    graph = chain(
        linear([[current]], [0.0]),
        fire(reset, threshold=threshold),
        shape=(1,),
        steps=steps,
        decision=Decision.SPIKES,
    )
    return float(run_graph(graph, np.ones((1, 1)))[0, 0])


def test_a_linear_layer_multiplies_and_adds_its_bias():
    graph = chain(linear([[1, -2], [3, 0.5]], [0.25, -1]), shape=(2,))
    assert run_graph(graph, np.array([[1.0, 0.5]])).tolist() == [[0.25, 2.25]]


def test_a_sparse_weight_computes_as_a_dense_one():
    weight = np.array([[0.0, 2.0], [0.0, 0.0]])
    op = Linear(weight=sparse(weight), bias=floats([0, 1]))
    assert run_graph(chain(op, shape=(2,)), np.array([[1.0, 0.5]])).tolist() == [[1.0, 1.0]]


def test_a_relu_cuts_what_is_negative():
    graph = chain(linear([[1], [-1]], [0, 0]), Relu(), shape=(1,))
    assert run_graph(graph, np.array([[0.5]])).tolist() == [[0.5, 0.0]]


def test_a_convolution_does_not_flip_its_kernel():
    image = np.arange(9.0).reshape(1, 1, 3, 3) / 8
    kernel = [[[[1, 2], [4, 8]]]]
    graph = chain(conv(kernel), Flatten(), shape=(1, 3, 3))
    # for the window that begins at 0: 1 * 0 + 2 * 1 + 4 * 3 + 8 * 4 = 46; each later one adds 15
    assert (run_graph(graph, image) * 8).tolist() == [[46, 61, 91, 106]]


def test_stride_and_padding_are_height_then_width():
    image = np.array([[[[1.0, 0.5, 0.25]]]])
    graph = chain(
        conv([[[[1, 2]]]], stride=(1, 2), padding=(1, 1)), Flatten(), shape=(1, 1, 3)
    )  # rows: padding, image, padding; columns: (0, 1), (0.5, 0.25)
    assert run_graph(graph, image).tolist() == [[0, 0, 2.0, 1.0, 0, 0]]


def test_a_group_reads_its_own_channels_only():
    image = np.array([1.0, 0.5, 0.25, 0.125]).reshape(1, 4, 1, 1)
    kernel = np.array([[1, 0], [0, 1], [1, 0], [0, 1]]).reshape(4, 2, 1, 1)
    graph = chain(conv(kernel, groups=2), Flatten(), shape=(4, 1, 1))
    assert run_graph(graph, image).tolist() == [[1.0, 0.5, 0.25, 0.125]]


def test_an_average_pooling_drops_what_fills_no_window():
    image = np.arange(15.0).reshape(1, 1, 3, 5) / 16
    graph = chain(AvgPool2d(kernel=(2, 2), stride=(2, 2)), Flatten(), shape=(1, 3, 5))
    assert (run_graph(graph, image) * 16).tolist() == [[3.0, 5.0]]


def test_the_normalisation_and_the_batch_norm_are_per_channel():
    image = np.array([0.5, 1.0]).reshape(1, 2, 1, 1)
    normalise = Normalize(mean=floats([0.25, 0.5]), std=floats([0.5, 0.25]))
    norm = BatchNorm(
        gain=floats([3, 1]),
        shift=floats([1, 0]),
        mean=floats([0.25, 1]),
        var=floats([3.75, 0.75]),
        eps=0.25,
    )
    graph = chain(normalise, norm, Flatten(), shape=(2, 1, 1))
    # (0.5, 2) normalised; then 3 * 0.25 / 2 + 1 and 1 * 1 / 1 + 0
    assert run_graph(graph, image).tolist() == [[1.375, 1.0]]


def test_a_sum_adds_all_its_branches_and_an_identity_does_nothing():
    nodes = (
        Node("input", Input(shape=(2,)), ()),
        Node("a", linear(2 * np.eye(2), [0, 0]), ("input",)),
        Node("drop", Identity(), ("a",)),
        Node("sum", Add(), ("drop", "input", "a")),
        Node("out", Readout(decision=Decision.MEMBRANE), ("sum",)),
    )
    graph = check_graph(Graph(nodes=nodes, steps=1))
    assert run_graph(graph, np.array([[1.0, 0.5]])).tolist() == [[5.0, 2.5]]


def test_flatten_goes_channel_by_channel_and_row_by_row():
    image = np.arange(8.0).reshape(1, 2, 2, 2) / 8
    assert run_graph(chain(Flatten(), shape=(2, 2, 2)), image).tolist() == [
        (np.arange(8) / 8).tolist()
    ]


@pytest.mark.parametrize(
    ("current", "limit"),
    [(0.3, 0.25), (0.6, 0.5), (0.75, 0.5), (0.99, 0.5), (1.0, 1.0), (2.5, 1.0)],
)
def test_a_hard_reset_fires_once_in_ceil_threshold_over_current_steps(current, limit):
    assert limit == 1 / ceil(1 / current)
    assert rate(current, reset=Reset.ZERO, steps=40) == limit


@pytest.mark.parametrize("current", [0.0, -0.5])
def test_without_a_positive_current_nothing_fires(current):
    assert rate(current, reset=Reset.ZERO, steps=40) == 0.0
    assert rate(current, reset=Reset.SUBTRACT, steps=40) == 0.0


@settings(max_examples=100, deadline=None)
@given(st.integers(-64, 128), st.integers(1, 96), st.integers(1, 40))
def test_a_soft_reset_is_within_one_threshold_over_the_steps(current, threshold, steps):
    # in units of 1/64 every sum is exact, so the bound has no slack
    found = rate(current / 64, reset=Reset.SUBTRACT, threshold=threshold / 64, steps=steps)
    wanted = min(max(current, 0), threshold)
    assert abs(round(found * steps) * threshold - steps * wanted) <= threshold


def test_a_membrane_at_its_threshold_fires():
    assert rate(0.25, reset=Reset.ZERO, steps=4) == 0.25
    assert rate(0.25, reset=Reset.ZERO, steps=3) == 0.0


def test_a_leak_keeps_its_share_before_the_input_arrives():
    graph = chain(
        linear([[0.625]], [0.0]),
        fire(Reset.ZERO, keep=0.5),
        shape=(1,),
        steps=7,
        decision=Decision.SPIKES,
    )  # v = 0.625, 0.9375, 1.09375 -> 0, and again
    assert run_graph(graph, np.ones((1, 1)))[0, 0] * 7 == 2


@pytest.mark.parametrize(
    ("granularity", "threshold"),
    [
        (Granularity.CHANNEL, [0.5, 0.25]),
        (Granularity.NEURON, [[[0.5, 0.5]], [[0.25, 0.25]]]),
    ],
)
def test_each_channel_or_neuron_compares_with_its_own_threshold(granularity, threshold):
    graph = chain(
        conv(np.eye(2).reshape(2, 2, 1, 1)),
        fire(Reset.ZERO, threshold=threshold, granularity=granularity),
        Flatten(),
        shape=(2, 1, 2),
        steps=4,
        decision=Decision.SPIKES,
    )
    image = np.array([0.25, 0.5, 0.125, 0.25]).reshape(1, 2, 1, 2)
    assert run_graph(graph, image).tolist() == [[0.5, 1.0, 0.5, 1.0]]


def test_the_readout_is_the_mean_over_the_steps():
    graph = chain(
        linear([[0.5]], [0.0]), fire(Reset.ZERO), linear([[3.0]], [0.25]), shape=(1,), steps=5
    )  # spikes at steps 2 and 4
    # 1e-15: a mean of five float64 numbers
    assert run_graph(graph, np.ones((1, 1)))[0, 0] == pytest.approx(3 * 2 / 5 + 0.25, abs=1e-15)


def test_samples_do_not_touch_each_other():
    graph = chain(
        linear([[1.0]], [0.0]),
        fire(Reset.SUBTRACT),
        shape=(1,),
        steps=6,
        decision=Decision.SPIKES,
    )
    images = np.array([[0.0], [0.5], [1.0]])
    together = run_graph(graph, images)
    apart = np.concatenate([run_graph(graph, image[None]) for image in images])
    np.testing.assert_array_equal(together, apart)
    assert together[:, 0].tolist() == [0.0, 0.5, 1.0]


def test_activations_are_the_output_of_every_node():
    graph = chain(linear([[1], [-1]], [0, 0]), Relu(), shape=(1,))
    found = activations(graph, np.array([[0.5]]))
    assert {name: values.tolist() for name, values in found.items()} == {
        "input": [[0.5]],
        "n0": [[0.5, -0.5]],
        "n1": [[0.5, 0.0]],
        "out": [[0.5, 0.0]],
    }


def test_activations_of_a_spiking_network_are_refused():
    graph = chain(
        linear([[1.0]], [0.0]), fire(Reset.ZERO), shape=(1,), steps=2, decision=Decision.SPIKES
    )
    with pytest.raises(InvalidSetting, match="this one spikes"):
        activations(graph, np.ones((1, 1)))


def test_images_of_another_shape_are_refused():
    with pytest.raises(InvalidSetting, match=r"images are \(3,\), not \(2,\)"):
        run_graph(chain(linear([[1, 2]], [0]), shape=(2,)), np.zeros((1, 3)))
