"""The trained neuron against the specification: the same spikes, wherever floats are exact."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.ir.graph import Granularity, Reset
from snnc.learn.neurons import Fire
from snnc.learn.surrogates import TRIANGLE
from snnc.semantics.neuron import ALIGN, step

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
        v, fired = step(v, current, bias=0, threshold=threshold * UNIT, decay=0, reset=reset)
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
        v, fired = step(v, current, bias=0, threshold=threshold * UNIT, decay=2048, reset=reset)
        expected.append(fired)
    # at most six halvings of multiples of 64: the specification rounds nothing either
    assert spikes.tolist() == expected
