"""The networks of the papers have the papers' sizes; their impossible variants are refused."""

from __future__ import annotations

import pytest
import torch
from snnc.errors import InvalidSetting
from snnc_models.resnet import resnet, resnet20, resnet32
from snnc_models.vgg import vgg11, vgg11_tinyimagenet, vgg16, vgg16_hydra
from snnc_models.wideresnet import wideresnet, wrn16_4, wrn28_2, wrn28_4
from torch import nn

RGB = {"mean": [0.5] * 3, "std": [0.25] * 3}


def census(network: nn.Module, size: int) -> tuple[int, int, int, int, int]:
    """Return weights, neurons, spiking layers, multiply-accumulates, and those of layer 1.

    The network lives on torch's meta device: shapes without numbers. A multiply-accumulate
    is counted for each weight and output position, padding included.
    """
    weights: list[int] = []
    neurons: list[int] = []
    macs: list[int] = []

    def look(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        if isinstance(module, nn.ReLU):
            neurons.append(output.numel())
        if isinstance(module, nn.Conv2d | nn.Linear):
            weights.append(module.weight.numel())
            macs.append(module.weight.numel() * output.numel() // output.shape[1])

    for module in network.modules():
        module.register_forward_hook(look)
    network.eval()(torch.zeros(1, 3, size, size, device="meta"))
    return sum(weights), sum(neurons), len(neurons), sum(macs), macs[0]


@pytest.mark.parametrize(
    ("make", "classes", "size", "expected"),
    [
        # Schmolli et al. (CPAL 2025), section 5.4: 276,992 neurons, 15,302,848 weights
        (vgg16_hydra, 10, 32, (15_302_848, 276_992, 15, 313_788_928, 1_769_472)),
        (vgg16, 10, 32, (33_625_792, 284_672, 15, 332_111_872, 1_769_472)),
        # 8192 * 4096 + 4096 * 4096 + 4096 * 10 of these are linear
        (vgg11, 10, 32, (61_359_808, 286_720, 10, 599_498_752, 1_769_472)),
        (vgg11_tinyimagenet, 200, 64, (12_134_080, 610_304, 9, 613_974_016, 7_077_888)),
        # He et al. (CVPR 2016), table 6: 0.27 and 0.46 million
        (resnet20, 10, 32, (270_896, 188_416, 19, 40_813_184, 442_368)),
        (resnet32, 10, 32, (464_432, 303_104, 31, 69_124_736, 442_368)),
        # Zagoruyko & Komodakis (BMVC 2016), table 4: 2.8 million for WRN-16-4
        (wrn16_4, 10, 32, (2_745_264, 475_136, 13, 392_612_352, 442_368)),
        (wrn28_2, 10, 32, (1_463_984, 475_136, 25, 214_353_152, 442_368)),
        (wrn28_4, 100, 32, (5_864_880, 933_888, 25, 845_620_224, 442_368)),
    ],
)
def test_a_network_has_the_size_of_its_paper(make, classes, size, expected):
    with torch.device("meta"):
        network = make(classes=classes, **RGB)
    assert census(network, size) == expected


def test_a_vgg_is_convolution_norm_relu_and_average_pooling_without_a_bias():
    network = vgg16_hydra(classes=10, width=1, hidden=4, size=16, **RGB)
    names = [name for name, _ in network.named_children()]
    assert names[:8] == [
        "normalize", "conv1", "norm1", "relu1", "conv2", "norm2", "relu2", "pool2",
    ]  # fmt: skip
    assert names[-6:] == ["flatten", "linear14", "relu14", "linear15", "relu15", "readout"]
    assert not any(name.endswith("bias") for name in network.state_dict() if "norm" not in name)
    assert not any(isinstance(module, nn.MaxPool2d) for module in network.modules())


def test_the_classifier_drops_a_fifth_behind_each_hidden_layer():
    network = vgg11(classes=10, width=1, hidden=4, size=8, **RGB)
    assert network.dropout9.p == network.dropout10.p == 0.2
    names = [name for name, _ in network.named_children()]
    assert names[-4:] == ["linear10", "relu10", "dropout10", "readout"]


def test_biases_are_there_when_asked_for():
    network = vgg11(classes=10, width=1, hidden=4, size=8, bias=True, **RGB)
    assert torch.equal(network.conv3.bias, torch.zeros(4))
    assert network.linear9.bias.shape == (4,)
    assert network.readout.bias.shape == (10,)


@pytest.mark.parametrize(
    ("make", "arguments", "fact"),
    [
        (vgg11, {"size": 36}, "vgg11: images of 36x36 for 3 poolings.*divides by 8"),
        (vgg16, {"size": 16}, "vgg16: images of 16x16 for 5 poolings.*divides by 32"),
        (vgg16_hydra, {"width": 0}, "vgg16_hydra: width is 0"),
        (vgg16_hydra, {"hidden": -1}, "vgg16_hydra: hidden is -1"),
        (vgg11, {"dropout": 1.0}, "vgg11: dropout is 1.0, give a share"),
        (vgg11_tinyimagenet, {"size": 8}, "vgg11_tinyimagenet: images of 8x8"),
        (resnet, {"depth": 21}, r"resnet: depth is 21, give 6 n \+ 2"),
        (resnet, {"depth": 2}, r"resnet: depth is 2, give 6 n \+ 2"),
        (resnet20, {"size": 30}, "resnet: images of 30x30.*divides by 4"),
        (wideresnet, {"depth": 20, "widen": 1}, r"wideresnet: depth is 20, give 6 n \+ 4"),
        (wideresnet, {"depth": 4, "widen": 1}, r"wideresnet: depth is 4, give 6 n \+ 4"),
        (wideresnet, {"depth": 16, "widen": 0}, "wideresnet: widen is 0"),
        (wrn28_4, {"width": True}, "wideresnet: width is True"),
    ],
)
def test_impossible_variants_are_refused(make, arguments, fact):
    with pytest.raises(InvalidSetting, match=fact):
        make(classes=10, **RGB, **arguments)
