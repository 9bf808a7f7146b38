"""The search for scales: what it finds, and what it never does."""

from dataclasses import replace

import numpy as np
import pytest
from snnc.errors import InvalidFile, InvalidGraph, InvalidSetting, UnknownName
from snnc.ir.check import check_graph
from snnc.ir.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    Decision,
    Fire,
    Flatten,
    Granularity,
    Graph,
    Input,
    Linear,
    Node,
    Normalize,
    Readout,
    Reset,
)
from snnc.ir.program import Layer
from snnc.ir.weights import Dense, floats, pack, unpack
from snnc.passes import PREPARE, apply
from snnc.passes.numbers import Bits, Numbers
from snnc.passes.quantize import quantize
from snnc.passes.rewrite import with_ops
from snnc.passes.scale import Limit
from snnc.quantization.account import KEY, account, account_of
from snnc.quantization.calibrate import compile_accounted
from snnc.quantization.search import search
from snnc.quantization.sensitivity import sensitivities
from snnc.report.quantization import calibration
from snnc.semantics.encode import encode
from snnc.simulate import reference
from snnc.simulate.floating import maps

NUMBERS = Numbers()
PLAIN = Numbers(weight_exponent_max=0, kernel_exponent_max=0)  # integers are mantissas


def fire(threshold=1.0, reset=Reset.ZERO, keep=1.0):
    return Fire(threshold=floats(threshold), granularity=Granularity.LAYER, reset=reset, keep=keep)


def linear(weight, bias=0.0):
    weight = np.asarray(weight, dtype=float)
    bias = np.broadcast_to(bias, len(weight))
    return Linear(weight=Dense(floats(weight)), bias=floats(bias))


def chain(*weights, steps=8, biases=None):
    """Return linear layers of these weights with spikes between them, over flat pixels."""
    nodes = [Node("input", Input(shape=(np.shape(weights[0])[1],)), ())]
    for i, weight in enumerate(weights):
        op = linear(weight, 0.0 if biases is None else biases[i])
        nodes.append(Node(f"fc{i}", op, (nodes[-1].name,)))
        if i < len(weights) - 1:
            nodes.append(Node(f"fire{i}", fire(), (nodes[-1].name,)))
    nodes.append(Node("out", Readout(decision=Decision.MEMBRANE), (nodes[-1].name,)))
    return check_graph(Graph(nodes=tuple(nodes), steps=steps))


def residual(seed, *, reset=Reset.ZERO, keep=1.0):
    """Return a small residual network of convolutions, pooling and groups, prepared."""
    rng = np.random.default_rng(seed)

    def conv(out, into, size=3, stride=1, groups=1):
        weight = rng.normal(size=(out, into // groups, size, size)) / np.sqrt(into * size)
        return Conv2d(
            weight=pack(weight * (rng.random(weight.shape) < 0.5)),
            bias=floats(rng.normal(size=out) * 0.1),
            stride=(stride, stride),
            padding=(size // 2, size // 2),
            groups=groups,
        )

    two = (2, 2)
    nodes = (
        Node("input", Input(shape=(2, 8, 8)), ()),
        Node("norm", Normalize(mean=floats([0.4, 0.5]), std=floats([0.3, 0.2])), ("input",)),
        Node("conv1", conv(4, 2), ("norm",)),
        Node("fire1", fire(0.6, reset, keep), ("conv1",)),
        Node("conv2", conv(4, 4, groups=2), ("fire1",)),
        Node("sum", Add(), ("conv2", "fire1")),
        Node("fire2", fire(0.8, reset, keep), ("sum",)),
        Node("pool", AvgPool2d(kernel=two, stride=two), ("fire2",)),
        Node("conv3", conv(6, 4, stride=2), ("pool",)),
        Node("fire3", fire(0.5, reset, keep), ("conv3",)),
        Node("flat", Flatten(), ("fire3",)),
        Node("fc", linear(rng.normal(size=(3, 24))), ("flat",)),
        Node("out", Readout(decision=Decision.MEMBRANE), ("fc",)),
    )
    return apply(PREPARE, check_graph(Graph(nodes=nodes, steps=5)))


def pictures(graph, count, seed=9):
    shape = graph.nodes[0].op.shape
    return np.rint(np.random.default_rng(seed).random((count, *shape)) * 255) / 255


def rate_errors(graph, program, images):
    """Return mean |spikes - float spikes| / steps of each layer, by the plain simulators."""
    trace = reference.run(program, encode(program.input, images), raster=True)
    floating = maps(graph, images)
    fires = [node.name for node in graph.nodes if isinstance(node.op, Fire)]
    return [
        np.abs(layer.raster.sum(axis=1) - floating[name].sum(axis=1)).mean() / graph.steps
        for layer, name in zip(trace.layers, fires, strict=True)
    ]


def outlier():
    """Return a network whose second layer has one large weight, of a neuron that never fires."""
    first = np.eye(8) * 0.3
    first[0] = 0.0
    first[0, 0] = -1.0
    second = np.full((3, 8), 0.25)
    second[:, 0] = 5.0
    return chain(first, second, np.eye(3))


def test_a_layer_is_clipped_where_that_is_better():
    graph, images = outlier(), pictures(outlier(), 40)
    found = search(graph, PLAIN, images, bits=Bits(others=4))
    assert found.before["fc1"] > 0.1  # at 7 / 5 units for one, all but the outlier round to 0
    assert found.after["fc1"] < 0.2 * found.before["fc1"]
    assert found.scales["fc1"] > 2.0
    weight = unpack(found.program.layers[1].synapses[0].weight)
    assert (weight[:, 0] == 7).all() and (weight[:, 1:] > 0).all()
    _, account = compile_accounted(graph, PLAIN, images=images, bits=Bits(others=4))
    assert account.layers[1].saturated == 3


@pytest.mark.parametrize("bits", [8, 6, 4, 3, 2])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_rate_error_is_never_larger_than_without_a_search(bits, seed):
    graph = residual(seed)
    images = pictures(graph, 24)
    found = search(graph, NUMBERS, images, bits=Bits(others=bits))
    plain = quantize(graph, NUMBERS, bits=Bits(others=bits))
    with_search = np.mean(rate_errors(graph, found.program, images))
    without = np.mean(rate_errors(graph, plain, images))
    assert with_search <= without
    if bits <= 3:
        assert with_search < without


def test_a_search_that_ends_worse_is_discarded():
    """Layer by layer each is the best; here all of them together are not."""
    graph = residual(5)
    images = pictures(graph, 2, seed=5)
    found = search(graph, NUMBERS, images, bits=Bits(others=8))
    same_integers(found.program, quantize(graph, NUMBERS, bits=Bits(others=8)))
    assert found.after == found.before and not found.shifted


@pytest.mark.parametrize(
    ("reset", "keep"), [(Reset.ZERO, 1.0), (Reset.ZERO, 0.75), (Reset.SUBTRACT, 1.0)]
)
def test_the_errors_told_are_those_that_the_simulators_show(reset, keep):
    graph = residual(3, reset=reset, keep=keep)
    images = pictures(graph, 24)
    found = search(graph, NUMBERS, images, bits=Bits(others=4))
    plain = quantize(graph, NUMBERS, bits=Bits(others=4))
    layers = [layer.name for layer in plain.layers]
    # 1e-12: the same whole counts, averaged in another order
    np.testing.assert_allclose(
        [found.after[name] for name in layers],
        rate_errors(graph, found.program, images),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        [found.before[name] for name in layers], rate_errors(graph, plain, images), rtol=1e-12
    )


def same_integers(one, other):
    for a, b in zip(one.populations, other.populations, strict=True):
        assert (a.name, a.scale) == (b.name, b.scale)
        np.testing.assert_array_equal(a.bias, b.bias)
        if isinstance(a, Layer):
            assert (a.threshold, a.decay) == (b.threshold, b.decay)
        for x, y in zip(a.synapses, b.synapses, strict=True):
            np.testing.assert_array_equal(unpack(x.weight), unpack(y.weight))


def test_the_scales_and_the_graph_found_give_the_program_again():
    graph = residual(1)
    bits = Bits(others=3, layers={"conv1": 5})
    found = search(graph, NUMBERS, pictures(graph, 24), bits=bits)
    assert found.shifted  # else the biases are not put to the test
    again = quantize(
        found.graph, NUMBERS, bits=bits, scales=found.scales, exponents=found.exponents
    )
    same_integers(found.program, again)


def test_weights_too_large_for_their_format_are_refused_without_a_search_and_clipped_by_one():
    graph = chain(np.eye(4) * 0.9, [[300.0, 0.3, 0.4, 0.2], [0.4, 0.3, 0.4, 0.2]], np.eye(2))
    with pytest.raises(InvalidGraph, match="fc1: its threshold is 0.423 units"):
        quantize(graph, NUMBERS)
    found = search(graph, NUMBERS, pictures(graph, 20))
    weight = unpack(found.program.layers[1].synapses[0].weight)
    assert weight[0, 0] == 127 and (weight[1] > 0).all()
    same_integers(found.program, quantize(found.graph, NUMBERS, scales=found.scales))


def narrow(seed):
    """Return a residual network whose weights are small beside the 1 of its shortcut."""
    graph = residual(seed)
    small = replace(graph["conv2"].op, weight=pack(unpack(graph["conv2"].op.weight) * 0.1))
    return with_ops(graph, {"conv2": small})


@pytest.mark.parametrize("seed", range(5))
def test_a_layer_that_rounding_would_silence_may_have_integers_at_another_scale(seed):
    graph, bits = narrow(seed), Bits(others=2)
    images = pictures(graph, 16)
    with pytest.raises(InvalidGraph, match="conv2: every weight rounds to 0"):
        quantize(graph, PLAIN, bits=bits)
    program, account = compile_accounted(graph, PLAIN, images=images, bits=bits)
    layer = next(each for each in program.layers if each.name == "conv2")
    assert all(unpack(bundle.weight).any() for bundle in layer.synapses)
    assert {each.measured.before for each in account.layers} == {None}
    assert account_of(program) == account
    columns, rows = account.rows()
    assert [row[columns.index("error, no search")] for row in rows] == ["none"] * len(rows)


def test_layers_without_integers_at_any_scale_are_refused_together():
    tiny = np.full((4, 4), 1e-6)  # a bias of 1 fits up to 4095 units for one
    graph = chain(np.eye(4), tiny, tiny, np.eye(4), biases=[0.0, 1.0, 1.0, 0.0])
    with pytest.raises(InvalidGraph) as refusal:
        search(graph, NUMBERS, pictures(graph, 4))
    assert [issue.layer for issue in refusal.value.issues] == ["fc1", "fc2"]


def test_the_same_images_give_the_same_integers():
    graph = residual(2)
    images = pictures(graph, 20)
    once, again = (search(graph, NUMBERS, images, bits=Bits(others=4)) for _ in range(2))
    same_integers(once.program, again.program)
    assert once.after == again.after


def test_a_bias_may_absorb_what_rounding_takes_from_the_mean():
    graph = residual(1)
    bits = Bits(others=2)
    found = search(graph, NUMBERS, pictures(graph, 24), bits=bits)
    unmoved = quantize(graph, NUMBERS, bits=bits, scales=found.scales, exponents=found.exponents)
    moved = {
        one.name
        for one, other in zip(found.program.populations, unmoved.populations, strict=True)
        if (one.bias != other.bias).any()
    }
    assert moved == found.shifted != frozenset()


def test_progress_is_told_layer_by_layer():
    graph, seen = residual(0), []
    search(graph, NUMBERS, pictures(graph, 4), progress=lambda *each: seen.append(each))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_calibration_without_images_or_with_wrong_ones_is_refused():
    graph = residual(0)
    with pytest.raises(InvalidSetting, match="two images or more"):
        search(graph, NUMBERS, np.zeros((1, 2, 8, 8)))
    with pytest.raises(InvalidSetting, match="shape"):
        search(graph, NUMBERS, np.zeros((3, 1, 8, 8)))
    with pytest.raises(UnknownName, match="no layer named 'conv9'"):
        search(graph, NUMBERS, pictures(graph, 2), bits=Bits(others=8, layers={"conv9": 4}))


def test_the_layer_that_hurts_most_is_named():
    rng = np.random.default_rng(0)
    fine = [np.sign(rng.normal(size=(6, 6))) * 0.5 for _ in range(3)]
    rough = np.where(rng.random((6, 6)) < 0.2, 1.5, 0.1)  # at 3 bits only the large ones survive
    graph = chain(fine[0], fine[1], rough, fine[2], biases=[0.4, 0.3, 0.2, 0.0])
    images = pictures(graph, 40)
    program = quantize(graph, NUMBERS, bits=Bits(others=3))
    found = sensitivities(graph, program, images)
    assert max(found, key=found.get) == "fc2"
    assert found["fc2"] > 3 * max(value for name, value in found.items() if name != "fc2")
    _, account = compile_accounted(
        graph, NUMBERS, images=images, bits=Bits(others=8, layers={"fc1": 2})
    )
    assert (
        account.to_json()["worst"]
        == account.worst
        == max(account.layers, key=lambda layer: layer.measured.sensitivity).name
    )


def test_integers_fine_enough_move_no_logit():
    graph = residual(3)
    wide = Numbers(
        weight_max=2**24, bias_max=2**40, input_bias_max=2**40, image_current_max=2**40,
        threshold_max=2**14, current_max=2**40, accumulator_max=2**50,
    )  # fmt: skip
    # few levels of grey leave the weights of the image many integers
    found = sensitivities(graph, quantize(graph, wide, levels=3), pictures(graph, 6))
    assert list(found) == ["conv1", "conv2", "conv3", "fc"]
    assert max(found.values()) < 1e-6  # no neuron changed a spike; the readout rounds


def test_the_account_counts_what_saturated_and_what_vanished():
    hidden = [[2.0, 0.9, 0.3, 0.0], [-2.0, 0.2, -0.9, 0.5]]
    graph = chain(np.eye(4), hidden, np.eye(2))
    program, account = compile_accounted(graph, PLAIN, images=None, bits=Bits(others=2))
    layer = account.layers[1]
    assert layer.name == "fc1" and layer.bits == 2 and layer.scale == 1.0
    assert (layer.weights, layer.saturated, layer.zeroed) == (7, 2, 3)
    assert (layer.threshold, layer.measured) == (1, None)
    assert program.provenance[KEY] == account.to_json()
    assert account.worst is None and account.images == 0
    columns, rows = account.rows()
    assert all(len(row) == len(columns) for row in rows)


def test_the_account_tells_what_leaves_bits_of_a_format_unused():
    """255 levels of 16 pixels at 1 need 255 * 16 w <= 4095 units: w is 1, 2 bits of 8."""
    graph = chain(np.ones((4, 16)), np.eye(4), np.eye(4))
    narrow = Numbers(image_current_max=4095)
    program, account = compile_accounted(graph, narrow, images=None)
    first = account.layers[0]
    assert (first.bits, first.used, first.limit) == (8, 2, Limit.IMAGE_CURRENT)
    assert account.remarks == (first.remark,)
    assert first.remark.startswith("fc0: weights use 2 of 8 bits, because the current that an")
    assert "--levels" in first.remark and "image=graded" in first.remark
    assert account.rows()[1][0][1] == "2 of 8" and account.rows()[1][1][1] == 8
    assert account.to_json()["layers"][0]["bits_used"] == 2
    assert account.to_json()["layers"][0]["limited_by"] == "image current"
    assert account_of(program) == account
    _, fewer = compile_accounted(graph, narrow, images=None, levels=2)
    assert (fewer.layers[0].used, fewer.remarks) == (8, ())


def test_one_bit_that_is_not_used_is_not_told():
    graph = chain(np.ones((4, 16)), np.eye(4), np.eye(4))
    _, account = compile_accounted(graph, Numbers(image_current_max=4095), images=None, levels=4)
    assert (account.layers[0].used, account.remarks) == (7, ())


def test_a_scale_chosen_far_below_the_formats_has_no_limit():
    graph = chain(np.eye(4), np.eye(4), np.eye(4))
    program = quantize(graph, NUMBERS, scales={"fc1": 20.0})
    told = account(graph, NUMBERS, program, bits=None)
    assert [each.limit for each in told.layers] == [Limit.THRESHOLD, None, Limit.WEIGHTS]
    assert told.layers[1].used == 6 and "a smaller scale" in told.layers[1].remark
    assert told.to_json()["layers"][1]["limited_by"] is None


def test_the_account_of_a_search_is_complete_and_kept_in_the_program():
    graph = residual(0)
    program, account = compile_accounted(graph, NUMBERS, images=pictures(graph, 8))
    written = program.provenance[KEY]
    assert written == account.to_json() and written["images"] == 8
    assert {"rate_error", "rate_error_before", "sensitivity"} <= set(written["layers"][0])
    assert {"logit_error", "logit_error_before"} <= set(written["layers"][-1])
    assert account_of(program) == account
    assert account_of(quantize(graph, NUMBERS)) is None
    columns, rows = account.rows()
    assert all(len(row) == len(columns) for row in rows)


def test_the_account_of_an_older_program_says_nothing_of_unused_bits():
    graph = chain(np.ones((4, 16)), np.eye(4), np.eye(4))
    program, told = compile_accounted(graph, Numbers(image_current_max=4095), images=None)
    layers = [
        {key: value for key, value in each.items() if key not in ("bits_used", "limited_by")}
        for each in told.to_json()["layers"]
    ]
    older = replace(program, provenance={KEY: {"layers": layers, "images": 0}})
    assert told.remarks != () == account_of(older).remarks
    assert [row[1] for row in account_of(older).rows()[1]] == [8, 8, 8]


def test_a_damaged_account_is_refused():
    graph = residual(0)
    damaged = replace(quantize(graph, NUMBERS), provenance={KEY: {"layers": [{}], "images": 3}})
    with pytest.raises(InvalidFile, match="account of quantization in the program is damaged"):
        account_of(damaged)


def test_the_report_shows_what_calibration_measured_and_nothing_without_it():
    graph = residual(0)
    program, account = compile_accounted(graph, NUMBERS, images=pictures(graph, 8))
    shown = calibration(program).html
    assert all(layer.name in shown for layer in account.layers)
    assert "on 8 training images" in shown and f"{account.worst} hurts most" in shown
    plain, _ = compile_accounted(graph, NUMBERS, images=None)
    assert calibration(plain).html == ""


def test_without_images_the_integers_are_those_of_the_plain_compiler():
    graph = residual(0)
    program, _ = compile_accounted(graph, NUMBERS, images=None)
    same_integers(program, quantize(graph, NUMBERS))
