"""Core counts that others published, or that follow from published formulas by hand.

What is reproduced of Loihi 2 is reproduced in sample: the constants were read off these tables.
"""

import numpy as np
import pytest
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    SpikeCount,
    Synapses,
)
from snnc.ir.weights import Dense, integers, sparse
from snnc_targets.loihi.cores import chip
from snnc_targets.loihi.cores.loihi1 import axon_words
from snnc_targets.loihi.cores.loihi2 import Rule
from snnc_targets.loihi.cores.partition import partition
from snnc_targets.loihi.cores.words import Encoding, loihi1_sparse
from snnc_targets.loihi.lowering import Image

LOIHI1, LOIHI2 = chip.load("loihi1"), chip.load("loihi2")


def weights(shape, bits):
    """Weights that need so many bits; none is zero."""
    largest = (1 << (bits - 1)) - 1
    values = np.full(shape, max(largest, 1), dtype=np.int32)
    values.reshape(-1)[0] = -max(largest, 1)
    return values


def conv(channels, kernel, stride, padding, bits, groups=1):
    return lambda shape: (
        weights((channels, shape[0] // groups, kernel, kernel), bits),
        Convolution(stride=stride, padding=padding, groups=groups),
        (
            channels,
            (shape[1] + 2 * padding[0] - kernel) // stride[0] + 1,
            (shape[2] + 2 * padding[1] - kernel) // stride[1] + 1,
        ),
    )


def square(channels, kernel, stride, padding, bits):
    return conv(channels, kernel, (stride, stride), (padding, padding), bits)


def dense(neurons, bits):
    return lambda shape: (
        weights((neurons, int(np.prod(shape))), bits),
        FullyConnected(),
        (neurons,),
    )


def network(image, *layers):
    shape, source, made = image, INPUT, []
    for index, build in enumerate(layers):
        name = f"layer{index}"
        values, kind, target = build(shape)
        weight = Dense(values) if values.all() else sparse(values)
        bundle = Synapses(name=name, source=source, weight=weight, kind=kind)
        made.append(
            Layer(
                name=name,
                shape=target,
                synapses=(bundle,),
                bias=integers(np.zeros(target[0])),
                threshold=641,
                decay=0,
                reset=Reset.ZERO,
                scale=1.0,
            )
        )
        shape, source = target, name
    return Program(
        input=ImageInput(shape=image, levels=255, zero_point=integers(np.zeros(image[0]))),
        layers=tuple(made),
        readout=SpikeCount(),
        steps=8,
    )


def cut(program, on, *, image=Image.GRADED, rule=Rule.NEWER):
    """Cut a program; by default the chip holds the synapses that read the image."""
    found = partition(program, on, image=image, rule=rule)
    assert not found.issues
    return found


def cores(found):
    return [len(each.cores) for each in found.cuts]


def test_w1_a_dense_layer_on_loihi_1_splits_where_nxtf_splits_it():
    # NxTF prints 13,328 words: 128 targets in 17 words for each of 784 axons
    found = cut(network((784,), dense(256, 8), dense(10, 8)), LOIHI1)
    assert cores(found) == [2, 1]
    assert [core.use[chip.Resource.SYNAPSE_WORDS] for core in found.cuts[0].cores] == [13_328] * 2
    assert found.cuts[1].words == 512


def test_w3_our_search_takes_19_cores_where_nxtf_takes_16():
    """NxTF lets neurons of a column share lists and takes 1, 4, 7, 3, 1; ours do not share."""

    def pixels(shape):
        return weights((1, 1, 1, 1), 8), Convolution(stride=(1, 1), padding=(0, 0), groups=1), shape

    layers = (square(16, 5, 2, 0, 8), square(32, 3, 1, 0, 8), square(64, 3, 2, 0, 8))
    program = network((1, 28, 28), pixels, *layers, square(10, 4, 1, 0, 8))
    found = cut(program, LOIHI1, image=Image.BIAS)
    assert cores(found) == [1, 3, 8, 6, 1]
    assert found.cuts[-1].words == 3_072  # nothing to share in the last layer: NxTF's number


@pytest.mark.parametrize(
    ("synapses", "bits", "words"),
    [(6, 2, 1), (7, 1, 2), (6, 3, 2)],  # 10 + n (6 + b) = 58, 59 and 64 bits
)
def test_nxtfs_encoder_takes_one_word_more_where_fewer_than_6_bits_are_left(synapses, bits, words):
    assert loihi1_sparse(LOIHI1, np.array([synapses]), 6, bits).tolist() == [words]


def test_w2_pruning_saves_two_of_three_cores_on_loihi_1():
    whole = cut(network((512,), dense(512, 8)), LOIHI1)
    assert (cores(whole), whole.cuts[0].tile[0]) == ([3], 171)
    assert whole.cuts[0].cores[0].use[chip.Resource.SYNAPSE_WORDS] == 11_776
    pruned = cut(network((512,), pruned_matrix), LOIHI1)
    (core,) = pruned.cuts[0].cores
    bundle = pruned.cuts[0].wirings[0]
    assert axon_words(LOIHI1, bundle, Encoding.SPARSE, core.box, 1).sum() == 7_168
    assert pruned.cuts[0].encodings == (Encoding.RUNLENGTH,)  # which takes fewer words still
    assert (pruned.cuts[0].kept_cores, pruned.cuts[0].words < 7_168) == (3, True)


def test_w2_pruning_saves_five_of_six_cores_on_loihi_2():
    whole = cut(network((512,), dense(512, 8)), LOIHI2)
    assert (cores(whole), whole.cuts[0].tile[0], whole.cuts[0].tried) == ([6], 86, (82_432,))
    assert whole.cuts[0].cores[0].use[chip.Resource.SYNAPSE_WORDS] == 13_824
    pruned = cut(network((512,), pruned_matrix), LOIHI2)
    assert (cores(pruned), pruned.cuts[0].words, pruned.cuts[0].kept_cores) == ([1], 8_192, 6)


def pruned_matrix(shape):
    """512 x 512, 51 non-zero weights of 8 bits to each axon."""
    rng = np.random.default_rng(0)
    values = np.zeros((512, 512), dtype=np.int32)
    for axon in range(512):
        values[rng.choice(512, 51, replace=False), axon] = rng.choice([-127, 127], 51)
    return values, FullyConnected(), (512,)


def test_the_published_mnist_network_takes_five_cores():
    # lava-dl netx/mnist: 784-128-64-10 on 3, 1 and 1 cores
    found = cut(network((784,), dense(128, 8), dense(64, 8), dense(10, 8)), LOIHI2)
    assert cores(found) == [3, 1, 1]


def pilotnet(bits):
    return (
        square(24, 3, 2, 0, 6),
        square(36, 3, 2, 0, 6),
        square(48, 3, 2, 0, 6),
        conv(64, 3, (2, 1), (1, 0), 4),
        square(64, 3, 1, 0, 4),
        dense(100, bits),
        dense(50, 4),
        dense(10, 4),
        dense(1, 4),
    )


def test_w5_pilotnet_takes_the_74_cores_of_intels_table():
    """lava-dl netx/pilotnet_snn/benchmark: cores, tiles, synapse words and logged allocations."""

    def camera(shape):  # the input layer of the published network has neurons and no synapses
        return weights((3, 1, 1, 1), 8), Convolution(stride=(1, 1), padding=(0, 0), groups=3), shape

    program = network((3, 66, 200), camera, *pilotnet(3))
    found = cut(program, LOIHI2.of_2023(), image=Image.BIAS, rule=Rule.OLDER)
    assert cores(found) == [13, 25, 13, 3, 3, 2, 12, 1, 1, 1]
    assert (found.cores, found.chips) == (74, 1)
    assert [each.tile for each in found.cuts[:6]] == [
        (3, 66, 16),
        (24, 32, 4),
        (36, 15, 4),
        (48, 7, 8),
        (64, 4, 8),
        (64, 2, 16),
    ]
    words = [round(each.words / len(each.cores)) for each in found.cuts]
    assert words == [0, 81, 864, 1620, 2160, 2880, 7253, 1300, 150, 10]
    assert found.cuts[6].tried == (61_440, 12_800)


def test_w5_the_sdnn_pilotnet_takes_61_cores():
    program = network((3, 66, 200), *pilotnet(4))
    found = cut(program, LOIHI2.of_2023(), rule=Rule.OLDER)
    assert cores(found) == [25, 13, 3, 3, 2, 12, 1, 1, 1]
    assert found.cores == 61
    assert found.cuts[5].tried == (66_560, 12_800)


def test_w6_yolo_kp_takes_the_574_cores_of_intels_table():
    """The widths of the weights were inferred from the printed words: this tests the rule."""
    found = cut(
        network(
            (3, 448, 448),
            square(16, 3, 2, 1, 6),
            square(32, 3, 2, 1, 6),
            square(64, 3, 2, 1, 5),
            square(128, 3, 2, 1, 5),
            square(256, 3, 1, 1, 5),
            square(256, 3, 2, 1, 4),
            square(512, 3, 1, 1, 5),
            square(256, 1, 1, 0, 5),
            square(512, 3, 1, 1, 5),
            square(48, 1, 1, 0, 7),
        ),
        LOIHI2,
    )
    assert cores(found) == [224, 112, 56, 28, 56, 16, 32, 14, 32, 4]
    assert (found.cores, found.chips) == (574, 5)


@pytest.mark.parametrize(
    ("bits", "expected", "chips"),
    [
        (8, [32, 32, 16, 16, 8, 8, 8, 16, 32, 32, 32, 32, 32, 22, 2, 1], 3),  # 321
        (5, [32, 32, 16, 16, 8, 8, 8, 8, 16, 16, 16, 16, 16, 18, 2, 1], 2),  # 229
    ],
)
def test_w7_a_prediction_for_vgg16_that_no_hardware_has_tested(bits, expected, chips):
    """Strides stand for the pools, which have no cores of their own."""
    widths = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
    layers = [
        square(channels, 3, 2 if first and channels != 64 else 1, 1, bits)
        for channels, count in widths
        for first in [True, *[False] * (count - 1)]
    ]
    heads = (dense(256, bits), dense(256, bits), dense(10, bits))
    found = cut(network((3, 32, 32), *layers, *heads), LOIHI2)
    assert cores(found) == expected
    assert (found.cores, found.chips) == (sum(expected), chips)
