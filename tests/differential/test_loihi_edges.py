"""On Lava, too, one unit of membrane decides as the specification says."""

import numpy as np
import pytest
from snnc.ir.check_program import check_program
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    SpikeCount,
    Synapses,
)
from snnc.ir.weights import Dense, integers
from snnc.semantics.network import specified
from snnc.testing.conformance import agree, run_on
from snnc_targets.loihi.target import TARGET

pytestmark = [pytest.mark.lava, pytest.mark.usefixtures("lava")]


def layer(name, threshold, *, decay=0, reset=Reset.ZERO, **weights):
    """Return as many neurons as each source has weights."""
    synapses = tuple(
        Synapses(
            name=f"{name}.{source}",
            source=source,
            weight=Dense(integers(np.reshape(values, (-1, 1)))),
            kind=FullyConnected(),
        )
        for source, values in weights.items()
    )
    size = len(synapses[0].weight.values)
    return Layer(
        name=name,
        shape=(size,),
        synapses=synapses,
        bias=integers(np.zeros(size)),
        threshold=threshold,
        decay=decay,
        reset=reset,
        scale=1.0,
    )


def program():
    """`now` fires at both steps, `late` at the second; the others read them."""
    layers = (
        layer("now", 1, **{INPUT: [1]}),
        layer("late", 65, **{INPUT: [1]}),
        layer("hard", 641, now=[4, 5, 10, 11]),
        layer("soft", 640, reset=Reset.SUBTRACT, now=[4, 5, 9, 10]),
        layer("above", 641, reset=Reset.SUBTRACT, now=[4, 5, 10, 11]),
        layer("leaky", 65, decay=1, now=[-1, -2], late=[3, 3]),
    )
    coding = ImageInput(shape=(1,), levels=1, zero_point=integers([0]))
    return check_program(Program(input=coding, layers=layers, readout=SpikeCount(), steps=2))


def test_neurons_at_their_thresholds_fire_on_lava_as_specified():
    codes = integers([[1]])
    want = specified(program(), codes)
    # in words: 641 needs 11 units; 640 is met by 10, and by 5 twice; 641 by neither; and the
    # membrane -64 leaks to -63, so that 128 more reach 65
    assert want.rasters["hard"][0].tolist() == [[0, 0, 0, 1], [0, 0, 1, 1]]
    assert want.rasters["soft"][0].tolist() == [[0, 0, 0, 1], [0, 1, 1, 1]]
    assert want.rasters["above"][0].tolist() == [[0, 0, 0, 1], [0, 0, 1, 1]]
    assert want.rasters["leaky"][0].tolist() == [[0, 0], [1, 0]]
    agree(run_on(TARGET, program(), codes), want)
