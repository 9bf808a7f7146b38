"""Powers of two that the weights of a bundle share: where, which, and what they are worth."""

from dataclasses import replace

import numpy as np
import pytest
from snnc.errors import InvalidGraph, InvalidSetting
from snnc.ir.check import check_graph
from snnc.ir.graph import (
    Add,
    Conv2d,
    Decision,
    Fire,
    Flatten,
    Granularity,
    Graph,
    Input,
    Linear,
    Node,
    Readout,
    Reset,
)
from snnc.ir.weights import floats, pack, unpack
from snnc.passes import PREPARE, apply
from snnc.passes.numbers import Bits, Numbers, weight_max
from snnc.passes.quantize import quantize
from snnc.passes.rounding import roundings
from snnc.quantization.account import account

NUMBERS = Numbers()
NONE = replace(NUMBERS, weight_exponent_max=0, kernel_exponent_max=0)
KERNELS = replace(NUMBERS, kernel_exponent_max=0)
FIRE = Fire(threshold=floats(1.0), granularity=Granularity.LAYER, reset=Reset.ZERO, keep=1.0)


def conv(weight, groups=1):
    weight = np.asarray(weight, dtype=float)
    border = weight.shape[2] // 2
    return Conv2d(
        weight=pack(weight),
        bias=floats(np.zeros(len(weight))),
        stride=(1, 1),
        padding=(border, border),
        groups=groups,
    )


def summed(*branches, image=False):
    """Return two channels of spikes, read by these convolutions, which are added up."""
    source = "input" if image else "first"
    rng = np.random.default_rng(4)
    nodes = [
        Node("input", Input(shape=(2, 4, 4)), ()),
        Node("conv", conv(rng.normal(size=(2, 2, 3, 3))), ("input",)),
        Node("first", FIRE, ("conv",)),
    ]
    for i, branch in enumerate(branches):
        nodes.append(Node(f"b{i}", branch, ("first" if i == 0 else source,)))
    if len(branches) > 1:
        nodes.append(Node("sum", Add(), tuple(f"b{i}" for i in range(len(branches)))))
    nodes += [
        Node("second", FIRE, (nodes[-1].name,)),
        Node("flat", Flatten(), ("second",)),
        Node(
            "fc", Linear(weight=pack(rng.normal(size=(3, 32))), bias=floats(np.zeros(3))), ("flat",)
        ),
        Node("out", Readout(decision=Decision.MEMBRANE), ("fc",)),
    ]
    return apply(PREPARE, check_graph(Graph(nodes=tuple(nodes), steps=4)))


def small(most=0.02):
    weight = np.random.default_rng(1).normal(size=(2, 2, 3, 3))
    return conv(weight * most / np.abs(weight).max())


def diagonal(*values):
    return conv(np.reshape(values, (len(values), 1, 1, 1)), groups=len(values))


def branches(graph, *, bits=None, numbers=NUMBERS):
    program = quantize(graph, numbers, bits=bits)
    return [unpack(bundle.weight) for bundle in program.layers[1].synapses], program


@pytest.mark.parametrize("bits", [8, 6, 4, 3, 2])
def test_small_weights_fill_their_format_beside_the_1_of_a_shortcut(bits):
    graph = summed(small(), diagonal(1.0, 1.0))
    (convolved, shortcut), program = branches(graph, bits=Bits(others=bits))
    most = weight_max(bits)
    scale = program.layers[1].scale
    finest, coarsest = exponents(program.layers[1], most)
    assert np.abs(convolved).max() == most and finest == 0
    assert scale == pytest.approx(most / 0.02)
    unit = 1 << coarsest
    assert 32 <= unit <= 64  # 1 / 0.02 is 50
    assert shortcut.reshape(-1).tolist() == [np.rint(scale / unit) * unit] * 2


def exponent_of(largest, most):
    return next(e for e in range(8) if np.rint(largest / 2**e) <= most)


def exponents(layer, most):
    """Return the least exponents at which mantissas are not above `most`."""
    whole = [unpack(bundle.weight) for bundle in layer.synapses]
    found = [exponent_of(np.abs(each).max(), most) for each in whole]
    for each, e in zip(whole, found, strict=True):
        assert (each % (1 << e) == 0).all()
    return found


@pytest.mark.parametrize("bits", [6, 4, 3, 2])
def test_a_weak_branch_fills_its_format_beside_a_strong_convolution_that_has_room(bits):
    graph = summed(small(0.5), diagonal(0.05, 0.04))
    (convolved, shortcut), program = branches(graph, bits=Bits(others=bits))
    most = weight_max(bits)
    strong, weak = exponents(program.layers[1], most)
    assert weak == 0 < strong <= 7 - (bits - 1)
    assert shortcut.max() > most // 4 and np.abs(convolved).max() <= 127
    (_, vanishes), _ = branches(summed(small(0.5), diagonal(0.2, 0.1)), bits=Bits(others=4))
    assert vanishes.all()


@pytest.mark.parametrize("bits", [3, 2])
def test_kernels_without_exponents_leave_a_weak_branch_nothing(bits):
    graph = summed(small(0.5), diagonal(0.05, 0.04))
    with pytest.raises(InvalidGraph, match="b1: every weight rounds to 0"):
        quantize(graph, KERNELS, bits=Bits(others=bits))


def test_given_exponents_are_kept_and_smaller_ones_saturate():
    graph = summed(small(0.5), diagonal(1.0, 1.0))
    (plain, _), program = branches(graph, bits=Bits(others=3))
    names = ("conv", "b0", "b1", "fc")
    given = dict.fromkeys(names, 0)
    scales = {"b0": program.layers[1].scale}
    found = quantize(graph, NUMBERS, bits=Bits(others=3), scales=scales, exponents=given)
    one, other = (unpack(bundle.weight) for bundle in found.layers[1].synapses)
    np.testing.assert_array_equal(one, plain)
    assert other.max() == 3 < program.layers[1].scale
    for wrong, most in (({"b1": 8}, 7), ({"b1": -1}, 7), ({"b0": 1}, 0), ({"fc": 1}, 0)):
        with pytest.raises(InvalidSetting, match=f"exponent of .* is .*; use 0 to {most}"):
            quantize(graph, NUMBERS, exponents={**given, **wrong})
    with pytest.raises(InvalidSetting, match="exponent of conv is None; use 0 to 0"):
        quantize(graph, NUMBERS, exponents={"b0": 0})


def test_without_exponents_the_same_weights_get_what_the_shortcut_leaves_them():
    (convolved, shortcut), _ = branches(summed(small(), diagonal(1.0, 1.0)), numbers=NONE)
    assert shortcut.max() == 127 and np.abs(convolved).max() == round(127 * 0.02)


def test_the_mantissa_is_as_fine_as_its_bits_allow():
    graph = summed(small(0.05), diagonal(1.0, 0.7))
    (_, shortcut), program = branches(graph)
    scale = program.layers[1].scale
    unit = 32  # 127 / 0.05 = 2540 = 79.4 * 32
    assert (shortcut % unit == 0).all()
    assert np.abs(shortcut.reshape(-1) - scale * np.array([1.0, 0.7])).max() <= unit / 2


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (summed(small(), conv(np.ones((2, 2, 1, 1)))), "Conv has none"),
        (summed(small(), diagonal(300.0, 300.0), image=True), "the host multiplies 255 levels"),
        (summed(diagonal(0.02, 1.0)), "alone"),
    ],
)
def test_no_exponent_where_none_can_be_or_none_helps(graph, why):
    with_one, program = branches(graph)
    without, _ = branches(graph, numbers=NONE)
    for one, other in zip(with_one, without, strict=True):
        np.testing.assert_array_equal(one, other)
    assert max(int(np.abs(each).max()) for each in with_one) <= 127


def test_a_bundle_alone_saturates_at_a_scale_that_is_too_large():
    program = quantize(summed(diagonal(0.02, 1.0)), NUMBERS, scales={"b0": 300.0})
    assert unpack(program.layers[1].synapses[0].weight).reshape(-1).tolist() == [6, 127]


def test_exponents_end_where_the_target_has_no_larger_one():
    most = replace(NUMBERS, weight_exponent_max=2)
    (convolved, shortcut), program = branches(summed(small(), diagonal(1.0, 1.0)), numbers=most)
    assert shortcut.max() == 127 * 4 and program.layers[1].scale == 127 * 4
    assert np.abs(convolved).max() == round(127 * 4 * 0.02)


def test_beyond_the_last_exponent_weights_saturate():
    graph = summed(small(), diagonal(1.0, 1.0))
    most = replace(NUMBERS, weight_exponent_max=2)
    program = quantize(graph, most, scales={"b0": 127 * 4 * 1.5})
    assert unpack(program.layers[1].synapses[1].weight).max() == 127 * 4


def test_the_account_counts_mantissas():
    graph = summed(small(), diagonal(1.0, 0.9))
    for bits in (8, 3):
        asked = Bits(others=bits)
        _, program = branches(graph, bits=asked)
        second = account(graph, NUMBERS, program, bits=asked).layers[1]
        assert (second.bits, second.used, second.saturated) == (bits, bits, 0)
        _, convolved, shortcut, _ = roundings(graph, program)
        assert shortcut.weight_bits <= bits and shortcut.saturated == 0
        assert (convolved.unit, convolved.weight_bits, convolved.saturated) == (1, bits, 0)
        assert shortcut.unit >= 32 and shortcut.error < 1 / (1 << bits)
