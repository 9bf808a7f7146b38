"""ResNets for small images, with the ReLU after the sum: spikes drive both branches.

The shape is that of He et al. (CVPR 2016), section 4.2: a convolution, three groups of
blocks with 1, 2 and 4 times its channels, the last two halving the maps, the mean of each
map, a linear layer. As in the code of Ozdenizci & Legenstein (TMLR 2024), a learned sum
joins the branches, and a shortcut that changes shape is a 1x1 convolution with batch norm.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from snnc.learn.neurons import Normalize
from torch import Tensor, nn

from snnc_models import arguments
from snnc_models.initial import draw_convolutions
from snnc_models.weighted_sum import WeightedSum


class Block(nn.Module):
    """relu(a * shortcut(x) + b * norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = _shortcut(before, after, stride)
        self.sum = WeightedSum()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, after, H / stride, W / stride) for (N, before, H, W)."""
        branch = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        joined: Tensor = self.relu2(self.sum(self.shortcut(x), branch))
        return joined


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if before == after and stride == 1:
        return nn.Identity()
    conv = nn.Conv2d(before, after, 1, stride, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(after)))


def resnet(
    *,
    depth: int,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    width: int = 16,
    bias: bool = False,
) -> nn.Module:
    """Return a ResNet of `depth` = 6 n + 2 layers, n blocks in each of the three groups.

    `mean` and `std`, one for each input channel, normalise images of `size` x `size` inside
    the network; `width` is the number of channels of the first convolution. With `bias`, the
    linear layer has one.

    Raises:
        InvalidSetting: a number is not positive, `depth` is not 6 n + 2, `size` does not
            divide by 4, or `mean` and `std` do not normalise.
    """
    arguments.require(
        "resnet", arguments.counts(depth=depth, classes=classes, size=size, width=width)
    )
    problems = list(arguments.divides(size, 4, "two groups that halve their maps"))
    if depth < 8 or (depth - 2) % 6:
        problems.append(f"depth is {depth}, give 6 n + 2: 8, 14, 20, 26, 32, ...")
    arguments.require("resnet", problems)
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize(mean, std))
    layers["conv1"] = nn.Conv2d(len(mean), width, 3, padding=1, bias=False)
    layers["norm1"] = nn.BatchNorm2d(width)
    layers["relu1"] = nn.ReLU()
    before = width
    for group, after in enumerate((width, 2 * width, 4 * width), start=1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for block in range(1, (depth - 2) // 6 + 1):
            stride = 2 if group > 1 and block == 1 else 1
            blocks[f"block{block}"] = Block(before, after, stride)
            before = after
        layers[f"group{group}"] = nn.Sequential(blocks)
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["readout"] = nn.Linear(before, classes, bias=bias)
    network = nn.Sequential(layers)
    draw_convolutions(network)
    return network


def resnet20(
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    width: int = 16,
    bias: bool = False,
) -> nn.Module:
    """Return `resnet` of depth 20: three blocks in each group."""
    return resnet(depth=20, classes=classes, mean=mean, std=std, size=size, width=width, bias=bias)


def resnet32(
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    width: int = 16,
    bias: bool = False,
) -> nn.Module:
    """Return `resnet` of depth 32: five blocks in each group."""
    return resnet(depth=32, classes=classes, mean=mean, std=std, size=size, width=width, bias=bias)
