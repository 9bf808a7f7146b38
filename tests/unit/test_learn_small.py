import pytest
import torch
from snnc import data
from snnc.errors import InvalidSetting
from snnc.frontend.tracing import trace
from snnc.learn.prune import prunable
from snnc_models.small import small_conv, small_dense


def test_the_network_classifies_images_and_can_be_traced():
    network = small_conv(
        channels=[4, 6],
        pool_after=[2],
        in_channels=3,
        size=6,
        classes=5,
        mean=[0.0] * 3,
        std=[1.0] * 3,
    ).eval()
    images = torch.rand(2, 3, 6, 6)
    assert network(images).shape == (2, 5)
    assert torch.equal(trace(network)(images), network(images))
    assert list(prunable(network)) == ["conv1.weight", "conv2.weight", "readout.weight"]


def test_it_normalises_with_the_statistics_of_the_digits():
    images = torch.from_numpy(data.load("digits").train.images)
    normalised = small_conv().normalize(images)
    # the defaults are written with four digits
    assert normalised.mean().item() == pytest.approx(0, abs=1e-3)
    assert normalised.std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "size_behind"),
    [
        ({}, 7),
        ({"kernels": 5}, 7),
        ({"strides": 2, "pool_after": []}, 4),
        ({"strides": [2, 1, 2], "kernels": [5, 3, 1], "pool_after": [1]}, 4),
        ({"size": 30, "strides": [1, 2, 2], "pool_after": [1]}, 4),  # 15, 8, 4
    ],
)
def test_kernels_strides_and_poolings_shape_the_maps(arguments, size_behind):
    network = small_conv(channels=[2, 3, 4], **{"size": 28, **arguments}).eval()
    size = arguments.get("size", 28)
    assert network.readout.in_features == 4 * size_behind**2
    assert network(torch.rand(2, 1, size, size)).shape == (2, 10)


def test_each_block_has_its_own_kernel_and_stride():
    network = small_conv(channels=[2, 2], kernels=[5, 1], strides=[2, 1], pool_after=[], size=9)
    assert (network.conv1.kernel_size, network.conv1.stride) == ((5, 5), (2, 2))
    assert (network.conv2.kernel_size, network.conv2.stride) == ((1, 1), (1, 1))


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({"channels": []}, "no channels"),
        ({"channels": [4, 0, 4]}, r"channels\[1\] is 0"),
        ({"pool_after": [0]}, r"pooling after \[0\]"),
        ({"pool_after": [4]}, r"pooling after \[4\]"),
        ({"size": 6}, "pooling after block 3 of a map of 3x3"),
        ({"size": 7}, "pooling after block 1 of a map of 7x7"),
        ({"kernels": 4}, r"kernels of size \[4, 4, 4\], give odd ones"),
        ({"kernels": [3, 3]}, "2 kernels for 3 blocks"),
        ({"strides": 0}, r"strides\[0\] is 0"),
        ({"strides": [1, 1, 1, 1]}, "4 strides for 3 blocks"),
        ({"in_channels": 3}, "1 means for 3 input channels"),
        ({"classes": 2.0}, "classes is 2.0"),
    ],
)
def test_impossible_shapes_are_refused(arguments, fact):
    with pytest.raises(InvalidSetting, match=f"small_conv: .*{fact}"):
        small_conv(**arguments)


def test_a_dense_network_has_batch_norm_and_relu_behind_each_hidden_layer():
    network = small_dense(hidden=[6, 5], size=4, classes=3, mean=[0.3], std=[0.4]).eval()
    assert network(torch.rand(2, 1, 4, 4)).shape == (2, 3)
    assert [name for name, _ in network.named_children()] == [
        "normalize",
        "flatten",
        *("linear1", "norm1", "relu1"),
        *("linear2", "norm2", "relu2"),
        "readout",
    ]
    assert [weight.shape for weight in prunable(network).values()] == [(6, 16), (5, 6), (3, 5)]


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({"hidden": []}, "no hidden layer"),
        ({"hidden": [3, -1]}, r"hidden\[1\] is -1"),
        ({"in_channels": 3}, "1 means for 3 input channels"),
    ],
)
def test_an_impossible_dense_network_is_refused(arguments, fact):
    with pytest.raises(InvalidSetting, match=f"small_dense: {fact}"):
        small_dense(mean=[0.3], std=[0.4], **arguments)
