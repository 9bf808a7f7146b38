"""The arithmetic of one neuron, case by case. Membranes below are in units of 1/64."""

from fractions import Fraction
from math import trunc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snnc.ir.graph import Reset
from snnc.semantics import neuron as semantics
from snnc.semantics.neuron import ALIGN, CURRENT_MAX, DECAY_BITS, V_MAX, leak

HALF = 2048  # a decay that keeps half


def step(v, current, **neuron):
    """Advance a neuron whose current is that of this step alone."""
    return semantics.step(0, v, current, current_decay=4096, **neuron)[1:]


def spikes(currents, *, bias=0, threshold, decay=0, current_decay=4096, reset):
    """Return the spike train and the membranes of one neuron that starts at 0."""
    u, v, train, membranes = 0, 0, [], []
    for current in currents:
        u, v, fired = semantics.step(
            u,
            v,
            current,
            current_decay=current_decay,
            bias=bias,
            threshold=threshold,
            decay=decay,
            reset=reset,
        )
        train.append(int(fired))
        membranes.append(v)
    return train, membranes


def test_the_constants_are_those_of_a_24_bit_membrane_with_6_fine_bits():
    assert (ALIGN, DECAY_BITS, V_MAX, CURRENT_MAX) == (6, 12, 8_388_607, 131_071)


@pytest.mark.parametrize(
    ("v", "decay", "left"),
    [
        (101, HALF, 50),
        (-101, HALF, -50),  # toward zero, not -51
        (1, 1, 0),
        (-1, 1, 0),  # not -1: a membrane that leaks comes to rest
        (-1, 4095, 0),
        (4096, 4095, 1),
        (-4096, 4095, -1),
        (-4097, 4095, -1),
        (7, 0, 7),
        (-7, 0, -7),
        (0, HALF, 0),
        (V_MAX, 1, V_MAX - 2048),  # 8388607 * 4095 / 4096 = 8386559.0002
        (-V_MAX, 1, 2048 - V_MAX),
    ],
)
def test_a_leak_rounds_toward_zero(v, decay, left):
    assert leak(v, decay) == left


@given(st.integers(-V_MAX, V_MAX), st.integers(0, 4095))
def test_a_leak_is_the_truncated_fraction(v, decay):
    assert leak(v, decay) == trunc(Fraction(v * (4096 - decay), 4096))


@pytest.mark.parametrize(
    ("reset", "threshold", "after"),
    [
        (Reset.ZERO, 6400, (0, True)),
        (Reset.SUBTRACT, 6400, (0, True)),
        (Reset.ZERO, 6401, (6400, False)),
        (Reset.SUBTRACT, 6401, (6400, False)),
        (Reset.ZERO, 6399, (0, True)),
        (Reset.SUBTRACT, 6399, (1, True)),
    ],
)
def test_a_neuron_fires_at_its_threshold_and_not_below(reset, threshold, after):
    assert step(0, 100, bias=0, threshold=threshold, decay=0, reset=reset) == after


def test_a_spike_sets_the_membrane_to_zero_or_takes_one_threshold_away():
    assert step(0, 350, bias=0, threshold=6400, decay=0, reset=Reset.ZERO) == (0, True)
    left = 350 * 64 - 6400  # more than a threshold: one spike a step, the rest is kept
    assert step(0, 350, bias=0, threshold=6400, decay=0, reset=Reset.SUBTRACT) == (left, True)


def test_a_bias_is_a_current_of_every_step():
    assert spikes([0, 0, 0], bias=40, threshold=6400, reset=Reset.ZERO) == (
        [0, 0, 1],
        [2560, 5120, 0],
    )
    assert step(0, 100, bias=-1, threshold=6400, decay=0, reset=Reset.ZERO) == (6336, False)


def test_the_leak_comes_before_the_input():
    assert step(6400, 50, bias=0, threshold=6400, decay=HALF, reset=Reset.ZERO) == (0, True)
    assert step(6400, 49, bias=0, threshold=6400, decay=HALF, reset=Reset.ZERO) == (6336, False)


@pytest.mark.parametrize("reset", Reset)
def test_a_membrane_saturates_at_both_ends(reset):
    idle = {"bias": 0, "decay": 0, "reset": reset}
    assert step(-V_MAX, -1, threshold=64, **idle) == (-V_MAX, False)
    assert step(-V_MAX + 63, -1, threshold=64, **idle) == (-V_MAX, False)
    assert step(-V_MAX + 64, -1, threshold=64, **idle) == (-V_MAX, False)
    assert step(-V_MAX + 65, -1, threshold=64, **idle) == (-V_MAX + 1, False)
    assert step(0, -(2**40), threshold=64, **idle) == (-V_MAX, False)
    assert step(V_MAX, 1, threshold=V_MAX + 1, **idle) == (V_MAX, False)
    assert step(0, 2**40, threshold=V_MAX, **idle) == (0, True)  # clipped to V_MAX, then reset


def test_a_soft_reset_subtracts_from_the_clipped_membrane():
    after = step(V_MAX, 1000, bias=0, threshold=6400, decay=0, reset=Reset.SUBTRACT)
    assert after == (V_MAX - 6400, True)


def test_the_largest_current_of_a_chip_just_fits():
    assert step(0, CURRENT_MAX, bias=0, threshold=2**30, decay=0, reset=Reset.ZERO) == (
        CURRENT_MAX << 6,
        False,
    )
    assert (CURRENT_MAX + 1) << 6 > V_MAX


def test_a_hard_and_a_soft_reset_give_their_known_trains():
    currents = [60] * 6  # 0.6 of a threshold of 100
    assert spikes(currents, threshold=6400, reset=Reset.ZERO)[0] == [0, 1, 0, 1, 0, 1]
    assert spikes(currents, threshold=6400, reset=Reset.SUBTRACT)[0] == [0, 1, 0, 1, 1, 0]


def test_a_leaky_membrane_follows_its_known_course():
    train, membranes = spikes([3] * 5, threshold=10_000, decay=1024, reset=Reset.ZERO)
    assert train == [0] * 5
    assert membranes == [192, 336, 444, 525, 585]  # v <- trunc(3 v / 4) + 192


def test_a_lasting_current_follows_its_known_course():
    train, membranes = spikes([8, 0, 0, 0], threshold=10_000, current_decay=HALF, reset=Reset.ZERO)
    assert membranes == [512, 768, 896, 960]  # u: 512, 256, 128, 64
    assert train == [0] * 4


def test_a_lasting_current_rounds_toward_zero():
    *_, v = spikes([-1, 0, 0, 0, 0, 0, 0, 0], threshold=64, current_decay=HALF, reset=Reset.ZERO)[1]
    assert v == -(64 + 32 + 16 + 8 + 4 + 2 + 1)  # then 0: half of -1 is toward zero


@pytest.mark.parametrize("reset", Reset)
def test_a_reset_leaves_the_current_alone(reset):
    u, _, fired = semantics.step(
        0, 0, 100, current_decay=HALF, bias=0, threshold=64, decay=0, reset=reset
    )
    assert (u, fired) == (6400, True)


def test_a_current_that_never_decays_adds_up_without_a_limit():
    u = 0
    for _ in range(3):
        u, v, _ = semantics.step(
            u, 0, CURRENT_MAX, current_decay=0, bias=0, threshold=2**30, decay=0, reset=Reset.ZERO
        )
    assert (u, v) == (3 * CURRENT_MAX << ALIGN, V_MAX)  # the membrane saturates, the current not
