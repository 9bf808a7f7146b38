"""Every host simulator agrees with the specification on programs in which every layer spikes.

Weights come from a drawn seed, not from hypothesis, which likes zeros: a layer that is silent
hides what is wrong with the synapses that leave it.
"""

from math import prod

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snnc import twin
from snnc.ir.check_program import check_program
from snnc.ir.geometry import convolved
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import Dense, integers, sparse, unpack
from snnc.semantics.network import specified
from snnc.simulate import fast, reference
from snnc.testing.conformance import agree

SIMULATORS = {"numpy": reference.run, "fast": fast.run, "torch": twin.run}
EXAMPLES = 40


def weights(rng, shape):
    values = rng.integers(-60, 61, shape).astype(np.int32) * (rng.random(shape) < 0.7)
    return sparse(values) if rng.random() < 0.5 else Dense(integers(values))


def convolution(rng, name, source, shape):
    """Return a grouped convolution with several outputs in a group, and its output's shape."""
    groups = int(rng.choice([g for g in (1, 2, 3) if shape[0] % g == 0]))
    kernel, padding, stride = rng.integers(1, 4, 2), rng.integers(0, 2, 2), rng.integers(1, 3, 2)
    kind = Convolution(
        stride=tuple(map(int, stride)), padding=tuple(map(int, padding)), groups=groups
    )
    size = (groups * int(rng.integers(2, 4)), shape[0] // groups, *map(int, kernel))
    bundle = Synapses(name=name, source=source, weight=weights(rng, size), kind=kind)
    return bundle, convolved(shape, size, kind.stride, kind.padding)


def matrix(rng, name, source, pre, post):
    weight = weights(rng, (post, pre))
    return Synapses(name=name, source=source, weight=weight, kind=FullyConnected())


def layer(rng, name, shape, *synapses, peak):
    """Return a layer whose threshold is of the size of its currents."""
    power = sum(np.mean(np.square(unpack(b.weight))) * prod(b.weight.shape[1:]) for b in synapses)
    level = max(1, int(np.sqrt(power) * peak * rng.uniform(0.2, 0.8)))
    reset = list(Reset)[rng.integers(2)]
    return Layer(
        name=name,
        shape=shape,
        synapses=synapses,
        bias=integers(rng.integers(-20, 41, shape[0])),
        threshold=((level - 1) << 6) + 1,
        decay=int(rng.choice([0, 0, 300, 2048])),
        reset=reset,
        scale=1.0,
    )


def lively(seed):
    """Return a program of two convolutions, a residual matrix and a readout, with codes for it."""
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([2, 3, 4, 6]))
    shape = (channels, int(rng.integers(7, 9)), int(rng.integers(7, 9)))  # 7: room for two strides
    first, size1 = convolution(rng, "conv1", INPUT, shape)
    second, size2 = convolution(rng, "conv2", "conv1", size1)
    third = matrix(rng, "fc", "conv2", prod(size2), 6)
    shortcut = matrix(rng, "fc.conv1", "conv1", prod(size1), 6)
    fourth = matrix(rng, "out", "fc", 6, 3)
    program = Program(
        input=ImageInput(shape=shape, levels=7, zero_point=integers(rng.integers(0, 4, shape[0]))),
        layers=(
            layer(rng, "conv1", size1, first, peak=4),
            layer(rng, "conv2", size2, second, peak=1),
            layer(rng, "fc", (6,), third, shortcut, peak=1),
        ),
        readout=Accumulator(
            name="out",
            shape=(3,),
            synapses=(fourth,),
            bias=integers(rng.integers(-99, 100, 3)),
            scale=1.0,
        ),
        steps=int(rng.integers(2, 7)),
    )
    pixels = rng.integers(0, 8, (2, *shape)).astype(np.int32)
    return check_program(program), pixels - program.input.zero_point[:, None, None]


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_simulator_agrees_where_every_layer_spikes(name):
    mixed = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.integers(0, 2**32 - 1))
    def agrees(seed):
        program, codes = lively(seed)
        trace = SIMULATORS[name](program, codes, raster=True)
        agree(trace, specified(program, codes))
        mixed.extend(0 < layer.raster.mean() < 1 for layer in trace.layers)

    agrees()
    assert np.mean(mixed) > 0.9  # else these programs are not lively and prove little
