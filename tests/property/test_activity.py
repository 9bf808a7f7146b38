"""Counts of events follow from the connections that `snnc.semantics` lists, one by one."""

from math import prod

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snnc.ir.program import INPUT, Convolution, FullyConnected, Synapses
from snnc.ir.weights import Dense, integers, nonzeros
from snnc.semantics.network import incoming
from snnc.simulate.activity import delivered, fan_out
from snnc.simulate.reference import run
from snnc.testing.programs import programs, runs

FEW = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def connections(program):
    """Yield every bundle with its source's shape and its listed synapses."""
    for population in program.populations:
        for bundle in population.synapses:
            source = program.shape_of(bundle.source)
            yield bundle, source, incoming(bundle, source, population.shape)


def same_padded(size):
    """Return a dense 3x3 convolution of a map of that size onto itself."""
    kind = Convolution(stride=(1, 1), padding=(1, 1), groups=1)
    weight = Dense(integers(np.ones((5, 2, 3, 3))))
    return Synapses(name="conv", source=INPUT, weight=weight, kind=kind), (2, size, size)


@FEW
@given(programs())
def test_the_fan_out_of_a_neuron_is_the_number_of_synapses_that_name_it(program):
    for bundle, source, listed in connections(program):
        counted = np.zeros(prod(source), dtype=np.int64)
        for synapses in listed:
            for pre, _ in synapses:
                counted[pre] += 1
        np.testing.assert_array_equal(fan_out(bundle, source), counted.reshape(source))


@FEW
@given(programs())
def test_what_leaves_the_sources_is_what_arrives_at_the_targets(program):
    for bundle, source, listed in connections(program):
        assert fan_out(bundle, source).sum() == sum(len(synapses) for synapses in listed)


@FEW
@given(programs())
def test_without_padding_every_weight_is_used_at_every_position(program):
    for population in program.populations:
        for bundle in population.synapses:
            match bundle.kind:
                case Convolution(padding=(0, 0)):
                    positions = prod(population.shape[1:])
                case FullyConnected():
                    positions = 1
                case _:
                    continue
            leaving = fan_out(bundle, program.shape_of(bundle.source))
            assert leaving.sum() == nonzeros(bundle.weight) * positions


@pytest.mark.parametrize(
    ("size", "published"), [(32, 0.959), (16, 0.918), (8, 0.840), (4, 0.694), (2, 0.444)]
)
def test_a_padded_border_cuts_the_published_share_of_synapses(size, published):
    bundle, source = same_padded(size)
    synapses = int(fan_out(bundle, source).sum())
    all_positions = nonzeros(bundle.weight) * size**2
    assert synapses == 10 * (3 * size - 2) ** 2  # one tap of three is cut at either end
    assert round(synapses / all_positions, 3) == published


def test_a_neuron_in_a_corner_reaches_four_of_nine_positions():
    bundle, source = same_padded(4)
    assert (fan_out(bundle, source)[0] // 5).tolist() == [
        [4, 6, 6, 4],
        [6, 9, 9, 6],
        [6, 9, 9, 6],
        [4, 6, 6, 4],
    ]


def test_a_stride_leaves_neurons_that_reach_nothing():
    kind = Convolution(stride=(2, 2), padding=(0, 0), groups=1)
    weight = Dense(integers(np.ones((1, 1, 1, 1))))
    bundle = Synapses(name="conv", source=INPUT, weight=weight, kind=kind)
    assert fan_out(bundle, (1, 3, 3)).tolist() == [[[1, 0, 1], [0, 0, 0], [1, 0, 1]]]


@FEW
@given(programs(), st.integers(0, 2**32 - 1))
def test_events_of_spikes_apart_add_up(program, seed):
    rng = np.random.default_rng(seed)
    for bundle, source, _ in connections(program):
        every = rng.random((2, 3, *source)) < 0.7
        some = every & (rng.random(every.shape) < 0.5)
        total = delivered(bundle, source, every)
        parts = delivered(bundle, source, some) + delivered(bundle, source, every & ~some)
        np.testing.assert_array_equal(total, parts)


@FEW
@given(runs())
def test_spikes_given_twice_deliver_twice(case):
    program, codes = case
    rasters = {layer.name: layer.raster for layer in run(program, codes, raster=True).layers}
    for bundle, source, _ in connections(program):
        if bundle.source == INPUT:
            continue
        once = rasters[bundle.source]
        twice = np.repeat(once, 2, axis=1)  # (samples, 2 steps, ...): each step again
        single, double = delivered(bundle, source, once), delivered(bundle, source, twice)
        assert double.sum() == 2 * single.sum()
        np.testing.assert_array_equal(double, np.repeat(single, 2, axis=1))


@FEW
@given(runs())
def test_a_neuron_is_updated_when_an_event_arrives_or_it_has_a_bias(case):
    program, codes = case
    trace = run(program, codes, raster=True)
    steps = np.arange(program.steps)
    emitted = {layer.name: layer.raster for layer in trace.layers}
    emitted[INPUT] = np.repeat(codes[:, None], program.steps, axis=1)
    wiring = {(bundle.name): listed for bundle, _, listed in connections(program)}
    for layer, traced in zip(program.layers, trace.layers, strict=True):
        expected = np.zeros((len(codes), len(steps)), dtype=np.int64)
        for j in range(layer.size):
            touched = np.full(
                expected.shape, bool(layer.bias[j // (layer.size // len(layer.bias))])
            )
            for bundle in layer.synapses:
                pre = [source for source, _ in wiring[bundle.name][j]]
                late = min(bundle.delay, program.steps)
                values = np.zeros((*expected.shape, emitted[bundle.source][0, 0].size))
                on_time = emitted[bundle.source].reshape(*expected.shape, -1)
                values[:, late:] = on_time[:, : program.steps - late]
                touched |= (values[:, :, pre] != 0).any(axis=-1)
            expected += touched
        np.testing.assert_array_equal(traced.updated, expected)
