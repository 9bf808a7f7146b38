"""What the specification says of time: delays, by hand."""

import numpy as np
import pytest
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    Accumulator,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import Dense, integers
from snnc.semantics.network import specified
from snnc.simulate import reference


def synapses(name, source, weight, delay=0):
    return Synapses(
        name=name,
        source=source,
        weight=Dense(integers([[weight]])),
        kind=FullyConnected(),
        delay=delay,
    )


def program(*, steps, delays, threshold=1):
    """Return a neuron that spikes at every step, and a sum that hears it once for each delay."""
    clock = Layer(
        name="clock",
        shape=(1,),
        synapses=(synapses("in", INPUT, 1),),
        bias=integers([0]),
        threshold=threshold,
        decay=0,
        reset=Reset.ZERO,
        scale=1.0,
    )
    total = Accumulator(
        name="total",
        shape=(1,),
        synapses=tuple(synapses(f"late{d}", "clock", 1 + d, d) for d in delays),
        bias=integers([0]),
        scale=1.0,
    )
    return Program(
        input=ImageInput(shape=(1,), levels=1, zero_point=integers([0])),
        layers=(clock,),
        readout=total,
        steps=steps,
    )


@pytest.mark.parametrize(
    ("delay", "events"),
    [(0, [1, 1, 1, 1]), (1, [0, 1, 1, 1]), (3, [0, 0, 0, 1]), (4, [0] * 4), (9, [0] * 4)],
)
def test_a_spike_arrives_its_delay_later_or_not_within_the_sample(delay, events):
    late = program(steps=4, delays=[delay])
    run = specified(late, np.array([[1]], dtype=np.int32))
    assert run.events[f"total/late{delay}"].tolist() == [events]
    assert run.logits.tolist() == [[(1 + delay) * sum(events)]]


@pytest.mark.parametrize(
    ("delay", "events"), [(0, [0, 1, 0, 1, 0]), (1, [0, 0, 1, 0, 1]), (2, [0, 0, 0, 1, 0])]
)
def test_what_arrives_is_what_was_sent_its_delay_earlier(delay, events):
    every_second = program(steps=5, delays=[delay], threshold=2 << 6)
    run = specified(every_second, np.array([[1]], dtype=np.int32))
    assert run.events[f"total/late{delay}"].tolist() == [events]


def test_several_delays_from_one_source_add_up():
    twice = program(steps=3, delays=[0, 2])
    run = specified(twice, np.array([[1]], dtype=np.int32))
    assert run.logits.tolist() == [[1 * 3 + 3 * 1]]
    trace = reference.run(twice, np.array([[1]], dtype=np.int32), raster=False)
    assert trace.logits.tolist() == run.logits.tolist()
