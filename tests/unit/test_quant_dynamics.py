"""The quick neurons of the search are those of the definition, also where they saturate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.ir.geometry import convolved
from snnc.ir.graph import Reset
from snnc.ir.program import Convolution, FullyConnected, Layer, Synapses
from snnc.ir.weights import Dense, integers
from snnc.quantization.arrivals import columns
from snnc.quantization.dynamics import counts, spikes
from snnc.semantics.neuron import CURRENT_MAX
from snnc.simulate import reference
from snnc.simulate.currents import currents

STEPS = 6


def layer_of(*, channels, positions, bias, threshold, decay, reset):
    synapses = Synapses(
        name="s",
        source="input",
        weight=Dense(integers(np.ones((channels, 1, 1, 1)))),
        kind=Convolution(stride=(1, 1), padding=(0, 0), groups=1),
    )
    return Layer(
        name="layer",
        shape=(channels, positions, 1),
        synapses=(synapses,),
        bias=integers(bias),
        threshold=threshold,
        decay=decay,
        reset=reset,
        scale=1.0,
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([3, 200, CURRENT_MAX]),
    reset=st.sampled_from(Reset),
    decay=st.sampled_from([0, 0, 1, 300, 4095]),
    dtype=st.sampled_from([np.float32, np.float64]),
    constant=st.booleans(),
)
def test_the_quick_neurons_fire_as_the_reference_simulator(
    seed, size, reset, decay, dtype, constant
):
    rng = np.random.default_rng(seed)
    bias = rng.integers(-size // 4, size // 4 + 1, 3)
    low = -size + abs(bias).max()  # |current| + |bias| fits the format
    arriving = rng.integers(low, -low + 1, (4, 1 if constant else STEPS, 3, 5, 1))
    level = int(rng.integers(1, size + 1))
    layer = layer_of(
        channels=3,
        positions=5,
        bias=bias,
        threshold=64 * level + 1 if reset is Reset.ZERO else 64 * level - 13,
        decay=decay,
        reset=reset,
    )
    drive = np.broadcast_to(arriving, (4, STEPS, 3, 5, 1)).astype(np.int64)
    want = reference.fire(layer, drive)[..., 0].transpose(0, 1, 3, 2)
    last = arriving[..., 0].transpose(0, 1, 3, 2).astype(dtype)
    np.testing.assert_array_equal(np.stack([*spikes(layer, last, STEPS)], axis=1), want)
    np.testing.assert_array_equal(counts(layer, last, STEPS), want.sum(axis=1))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "padding"), [((1, 1), (1, 1)), ((2, 1), (0, 2))])
def test_columns_weigh_as_the_currents_of_the_simulators(groups, stride, padding):
    rng = np.random.default_rng(0)
    source, weight = (4, 7, 6), rng.integers(-9, 10, (6, 4 // groups, 3, 2)).astype(np.int32)
    bundle = Synapses(
        name="s",
        source="x",
        weight=Dense(weight),
        kind=Convolution(stride=stride, padding=padding, groups=groups),
    )
    target = convolved(source, weight.shape, stride, padding)
    emitted = rng.random((2, 3, *source)) < 0.4
    found = columns(bundle, target, emitted, np.float32).times(weight)
    want = currents(bundle, source, emitted.reshape(-1, *source)).reshape(2, 3, 6, -1)
    np.testing.assert_array_equal(found, want.transpose(0, 1, 3, 2))
    means = columns(bundle, target, emitted, np.float32).mean()
    assert means.shape == (groups, 4 // groups * 6)


def test_columns_of_a_matrix_are_what_it_reads():
    rng = np.random.default_rng(1)
    weight = rng.integers(-9, 10, (5, 12)).astype(np.int32)
    bundle = Synapses(name="s", source="x", weight=Dense(weight), kind=FullyConnected())
    emitted = rng.random((2, 3, 3, 2, 2)) < 0.4
    found = columns(bundle, (5,), emitted, np.float64).times(weight)
    want = emitted.reshape(2, 3, 12).astype(int) @ weight.T
    np.testing.assert_array_equal(found[:, :, 0], want)
