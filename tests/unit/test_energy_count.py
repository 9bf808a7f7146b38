"""Counts of small programs, worked out by hand or one multiplication at a time."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from snnc.energy.ann import Absent, ann_counts, ann_counts_of_program
from snnc.energy.count import QUANTITIES, Encoding, count
from snnc.energy.quantity import Quantity
from snnc.energy.sampled import Sampled
from snnc.errors import InvalidSetting
from snnc.ir.graph import (
    Conv2d,
    Decision,
    Flatten,
    Graph,
    Input,
    Linear,
    Node,
    Readout,
    Relu,
    Reset,
)
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
from snnc.ir.weights import Csr, Dense, floats, freeze, integers, sparse
from snnc.simulate.floating import activations
from snnc.simulate.reference import run

STEPS = 3


def layer(name, source, weight, *, shape=None, kind=None, bias=0):
    bundle = Synapses(
        name=f"{name}.synapses", source=source, weight=weight, kind=kind or FullyConnected()
    )
    shape = shape or (weight.shape[0],)
    return Layer(
        name=name,
        shape=shape,
        synapses=(bundle,),
        bias=integers(np.full(shape[0], bias)),
        threshold=64,
        decay=0,
        reset=Reset.ZERO,
        scale=1.0,
    )


def two_layers():
    """Two pixels -> two relays -> three neurons -> two classes."""
    first = layer("first", INPUT, Dense(integers(np.eye(2))))
    second = layer("second", "first", Dense(integers([[1, 0], [1, 1], [0, 0]])))
    weight = sparse(np.array([[1, 0, 0], [0, -1, 0]], dtype=np.int32))
    return Program(
        input=ImageInput(shape=(2,), levels=1, zero_point=integers([0, 0])),
        layers=(first, second),
        readout=Accumulator(
            name="out",
            shape=(2,),
            synapses=(Synapses(name="out", source="second", weight=weight, kind=FullyConnected()),),
            bias=integers([0, 0]),
            scale=1.0,
        ),
        steps=STEPS,
    )


def counts_of(program, codes):
    trace = run(program, integers(codes), raster=False)
    return count(program, trace, ann=ann_counts_of_program(program))


def test_the_counts_of_a_small_program_are_those_worked_out_by_hand():
    # sample [1, 0]: relay 0 fires at all 3 steps, 2 synapses each; the first two neurons of
    # `second` fire with it; each has one synapse to the accumulator.
    counts = counts_of(two_layers(), [[1, 0]])
    by_name = {bundle.name: bundle for bundle in counts.bundles}
    first, second, out = counts.populations
    assert by_name["first.synapses"].events.mean == 1  # one pass over the image
    assert by_name["second.synapses"].events.mean == 6
    assert by_name["out"].events.mean == 6
    assert [each.spikes.mean for each in counts.populations] == [3, 6, 0]
    assert (first.active.mean, first.inactive.mean) == (3, 3)
    assert (second.active.mean, second.inactive.mean) == (6, 3)
    assert (out.active.mean, out.inactive.mean, out.spiking) == (6, 0, False)


def test_stored_weights_and_connections_leave_out_zeros():
    by_name = {bundle.name: bundle for bundle in counts_of(two_layers(), [[1, 1]]).bundles}
    second = by_name["second.synapses"]
    assert (second.weights, second.stored, second.connections) == (6, 3, 3)


def test_the_encoding_is_that_of_the_weight():
    by_name = {bundle.name: bundle.encoding for bundle in counts_of(two_layers(), [[1, 1]]).bundles}
    assert by_name == {
        "first.synapses": Encoding.DENSE,
        "second.synapses": Encoding.DENSE,
        "out": Encoding.SPARSE,
    }


def test_mean_and_spread_are_over_samples():
    counts = counts_of(two_layers(), [[1, 0], [0, 0]])
    events = counts.bundles[1].events
    assert events == Sampled(mean=3.0, std=pytest.approx(np.std([6, 0], ddof=1), rel=1e-15))
    assert counts.samples == 2


def test_the_covariance_is_between_totals_of_a_sample():
    counts = counts_of(two_layers(), [[1, 0], [0, 0], [1, 1]])
    dense = QUANTITIES.index(Quantity.SYNAPTIC_DENSE)
    spikes = QUANTITIES.index(Quantity.SPIKES)
    want = np.cov([6, 0, 9], [9, 0, 12])  # relay 1 has one synapse, onto a neuron that fires
    got = np.array(counts.covariance)[np.ix_([dense, spikes], [dense, spikes])]
    np.testing.assert_allclose(got, want, rtol=1e-12)  # float64 sums of small integers


def test_one_sample_has_no_spread():
    counts = counts_of(two_layers(), [[1, 0]])
    assert counts.covariance is None
    assert counts.bundles[0].events.std is None


def test_a_spike_at_a_padded_border_meets_fewer_synapses():
    kernel = Dense(integers(np.ones((1, 1, 3, 3))))
    kind = Convolution(stride=(1, 1), padding=(1, 1), groups=1)
    relay = layer(
        "relay",
        INPUT,
        Dense(integers(np.ones((1, 1, 1, 1)))),
        shape=(1, 3, 3),
        kind=Convolution(stride=(1, 1), padding=(0, 0), groups=1),
    )
    conv = layer("conv", "relay", kernel, shape=(1, 3, 3), kind=kind)
    program = Program(
        input=ImageInput(shape=(1, 3, 3), levels=1, zero_point=integers([0])),
        layers=(relay, conv),
        readout=Accumulator(
            name="out",
            shape=(1,),
            synapses=(
                Synapses(
                    name="out",
                    source="conv",
                    weight=Dense(integers(np.ones((1, 9)))),
                    kind=FullyConnected(),
                ),
            ),
            bias=integers([0]),
            scale=1.0,
        ),
        steps=1,
    )
    corner, centre = np.zeros((2, 1, 3, 3), dtype=np.int32)
    corner[0, 0, 0] = centre[0, 1, 1] = 1
    events = [counts_of(program, [codes]).bundles[1].events.mean for codes in (corner, centre)]
    assert events == [4, 9]


def test_a_trace_of_another_program_is_refused():
    program = two_layers()
    trace = run(program, integers([[1, 0]]), raster=False)
    other = Program(
        input=program.input, layers=program.layers[:1], readout=program.readout, steps=STEPS
    )
    with pytest.raises(InvalidSetting, match="the trace is of another program"):
        count(other, trace, ann=ann_counts_of_program(program))


def test_an_empty_trace_is_refused():
    program = two_layers()
    trace = run(program, integers([[1, 0]]), raster=False)
    empty_trace = replace(trace, predictions=trace.predictions[:0])
    with pytest.raises(InvalidSetting, match="holds no samples"):
        count(program, empty_trace, ann=ann_counts_of_program(program))


def relu_network(rng):
    def weights(*shape):
        return floats(rng.integers(-1, 2, shape) * rng.random(shape))  # a third are zero

    conv = Conv2d(
        weight=sparse(weights(4, 1, 3, 2)),
        bias=floats(rng.normal(size=4)),
        stride=(2, 1),
        padding=(1, 1),
        groups=2,
    )
    return Graph(
        nodes=(
            Node("image", Input(shape=(2, 5, 4)), ()),
            Node("conv", conv, ("image",)),
            Node("relu", Relu(), ("conv",)),
            Node("flat", Flatten(), ("relu",)),
            Node("fc", Linear(weight=Dense(weights(3, 60)), bias=floats(np.zeros(3))), ("flat",)),
            Node("logits", Readout(decision=Decision.MEMBRANE), ("fc",)),
        ),
        steps=1,
    )


def multiplications(weight, x, *, stride, padding, groups):
    """Count one multiplication at a time: all, those inside, those of two non-zero factors."""
    outputs, inputs, height, width = weight.shape
    rows = (x.shape[1] + 2 * padding[0] - height) // stride[0] + 1
    columns = (x.shape[2] + 2 * padding[1] - width) // stride[1] + 1
    textbook = inside = useful = 0
    taps = product(
        range(outputs), range(rows), range(columns), range(inputs), range(height), range(width)
    )
    for out, row, column, channel, ky, kx in taps:
        textbook += 1
        y, z = row * stride[0] + ky - padding[0], column * stride[1] + kx - padding[1]
        if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
            inside += 1
            source = out // (outputs // groups) * inputs + channel
            useful += bool(weight[out, channel, ky, kx] != 0 and x[source, y, z] != 0)
    return textbook, inside, useful


def test_the_multiplications_of_an_ann_are_those_of_the_plain_loops():
    rng = np.random.default_rng(5)
    graph = relu_network(rng)
    images = rng.random((3, 2, 5, 4)) * (rng.random((3, 2, 5, 4)) < 0.7)
    maps = activations(graph, images)

    counted = ann_counts(graph, [maps])

    conv, fc = graph["conv"].op, graph["fc"].op
    kernel = np.zeros((4, 6))
    kernel[np.repeat(np.arange(4), np.diff(conv.weight.indptr)), conv.weight.indices] = (
        conv.weight.data
    )
    loops = [
        multiplications(kernel.reshape(4, 1, 3, 2), image, stride=(2, 1), padding=(1, 1), groups=2)
        for image in images
    ]
    linear = [((fc.weight.values != 0) & (x != 0)).sum() for x in maps["flat"]]
    first, second = counted.layers
    assert (first.textbook, first.dense) == loops[0][:2]
    assert first.skipping.mean == np.mean([useful for *_, useful in loops])
    assert (second.textbook, second.dense) == (180, 180)
    assert second.skipping.mean == np.mean(linear)
    totals = [useful + extra for (*_, useful), extra in zip(loops, linear, strict=True)]
    assert counted.skipping == Sampled(mean=np.mean(totals), std=np.std(totals, ddof=1))


def test_batches_of_activations_count_like_one():
    rng = np.random.default_rng(6)
    graph = relu_network(rng)
    images = rng.random((4, 2, 5, 4))
    whole = ann_counts(graph, [activations(graph, images)])
    halves = ann_counts(graph, [activations(graph, images[:2]), activations(graph, images[2:])])
    assert whole == halves


def test_an_ann_without_images_has_no_zero_skipping_count():
    with pytest.raises(InvalidSetting, match="at least one image"):
        ann_counts(relu_network(np.random.default_rng(0)), [])


def test_without_a_float_network_the_zero_skipping_count_is_absent_and_says_why():
    counted = ann_counts_of_program(two_layers())
    assert counted.dense == counted.textbook == 4 + 6 + 6
    assert isinstance(counted.skipping, Absent)
    assert "no float network was given" in counted.skipping.reason


def empty(*shape):
    """A weight array of this shape without a single stored weight."""
    return Csr(
        shape=shape,
        data=floats([]),
        indices=integers([]),
        indptr=freeze(np.zeros(shape[0] + 1), np.int64),
    )


VGG16 = [(64, 32), (64, 32), (128, 16), (128, 16), (256, 8), (256, 8), (256, 8)]
VGG16 += [(512, 4)] * 3 + [(512, 2)] * 3  # (channels, side of the map)


def test_vgg16_has_the_parameters_and_multiplications_of_the_paper():
    # Parameters as printed for VGG-16 on CIFAR-10 by Schmolli et al.; the multiplications
    # follow from the shapes.
    nodes, maps, channels = [], {}, 3
    for i, (width, side) in enumerate(VGG16):
        conv = Conv2d(
            weight=empty(width, channels, 3, 3),
            bias=floats(np.zeros(width)),
            stride=(1, 1),
            padding=(1, 1),
            groups=1,
        )
        nodes.append(Node(f"conv{i}", conv, (f"map{i}",)))
        maps[f"map{i}"] = np.zeros((1, channels, side, side))
        channels = width
    for i, (outputs, inputs) in enumerate([(256, 2048), (256, 256), (10, 256)]):
        linear = Linear(weight=empty(outputs, inputs), bias=floats(np.zeros(outputs)))
        nodes.append(Node(f"fc{i}", linear, (f"flat{i}",)))
        maps[f"flat{i}"] = np.zeros((1, inputs))

    counted = ann_counts(Graph(nodes=tuple(nodes), steps=1), [maps])

    assert sum(each.weights for each in counted.layers) == 15_302_848
    assert counted.textbook == 313_788_928
    assert counted.layers[0].textbook == 1_769_472
    assert counted.skipping == Sampled(mean=0.0, std=None)
    for name, side in {"conv1": 32, "conv3": 16, "conv5": 8, "conv8": 4, "conv11": 2}.items():
        each = next(each for each in counted.layers if each.name == name)
        # each way, 3 taps x `side` positions of which 2 fall on padding
        assert each.dense * (3 * side) ** 2 == each.textbook * (3 * side - 2) ** 2
