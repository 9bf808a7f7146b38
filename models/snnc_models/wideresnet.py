"""Wide ResNets: batch norm and ReLU come before each convolution, the sum has no ReLU.

The shape is that of Zagoruyko & Komodakis (BMVC 2016): a convolution, three groups of
blocks with `widen`, 2 and 4 times `widen` times its channels, the last two halving the
maps, batch norm and ReLU, the mean of each map, a linear layer. As in the code of
Ozdenizci & Legenstein (TMLR 2024), a learned sum joins the branches.

What runs from block to block is a sum of real numbers, not spikes. A program holds it by
copying what is linear for each layer that reads a sum (`snnc.passes.distribute_sums`): in a
group of n blocks, the weights of the first block are there n times.
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
    """a * x + b * conv(relu(norm(conv(s)))) with s = relu(norm(x)), for equal channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.branch = _branch(channels, channels, 1)
        self.sum = WeightedSum()

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the shape of x, (N, channels, H, W)."""
        joined: Tensor = self.sum(x, self.branch(self.relu1(self.norm1(x))))
        return joined


class WideningBlock(nn.Module):
    """a * conv(s) + b * conv(relu(norm(conv(s)))) with s = relu(norm(x)), to other channels."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.relu1 = nn.ReLU()
        self.branch = _branch(before, after, stride)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)
        self.sum = WeightedSum()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, after, H / stride, W / stride) for (N, before, H, W)."""
        active = self.relu1(self.norm1(x))
        joined: Tensor = self.sum(self.shortcut(active), self.branch(active))
        return joined


def _branch(before: int, after: int, stride: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            norm2=nn.BatchNorm2d(after),
            relu2=nn.ReLU(),
            conv2=nn.Conv2d(after, after, 3, padding=1, bias=False),
        )
    )


def wideresnet(
    *,
    depth: int,
    widen: int,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    width: int = 16,
    bias: bool = False,
) -> nn.Module:
    """Return a wide ResNet of `depth` = 6 n + 4 layers, n blocks in each of the three groups.

    `mean` and `std`, one for each input channel, normalise images of `size` x `size` inside
    the network; `width` is the number of channels of the first convolution, the groups have
    1, 2 and 4 times `widen` times as many. With `bias`, the linear layer has one.

    Raises:
        InvalidSetting: a number is not positive, `depth` is not 6 n + 4, `size` does not
            divide by 4, or `mean` and `std` do not normalise.
    """
    arguments.require(
        "wideresnet",
        arguments.counts(depth=depth, widen=widen, classes=classes, size=size, width=width),
    )
    problems = list(arguments.divides(size, 4, "two groups that halve their maps"))
    if depth < 10 or (depth - 4) % 6:
        problems.append(f"depth is {depth}, give 6 n + 4: 10, 16, 22, 28, ...")
    arguments.require("wideresnet", problems)
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize(mean, std))
    layers["conv1"] = nn.Conv2d(len(mean), width, 3, padding=1, bias=False)
    before = width
    for group, multiple in enumerate((widen, 2 * widen, 4 * widen), start=1):
        after, stride = width * multiple, 2 if group > 1 else 1
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for block in range(1, (depth - 4) // 6 + 1):
            blocks[f"block{block}"] = (
                Block(after) if before == after else WideningBlock(before, after, stride)
            )
            before = after
        layers[f"group{group}"] = nn.Sequential(blocks)
    layers["norm2"] = nn.BatchNorm2d(before)
    layers["relu2"] = nn.ReLU()
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["readout"] = nn.Linear(before, classes, bias=bias)
    network = nn.Sequential(layers)
    draw_convolutions(network)
    return network


def wrn16_4(
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    width: int = 16,
    bias: bool = False,
) -> nn.Module:
    """Return WRN-16-4: `wideresnet` of depth 16, four times as wide."""
    return wideresnet(
        depth=16, widen=4, classes=classes, mean=mean, std=std, size=size, width=width, bias=bias
    )


def wrn28_2(
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    width: int = 16,
    bias: bool = False,
) -> nn.Module:
    """Return WRN-28-2: `wideresnet` of depth 28, twice as wide."""
    return wideresnet(
        depth=28, widen=2, classes=classes, mean=mean, std=std, size=size, width=width, bias=bias
    )


def wrn28_4(
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    width: int = 16,
    bias: bool = False,
) -> nn.Module:
    """Return WRN-28-4: `wideresnet` of depth 28, four times as wide."""
    return wideresnet(
        depth=28, widen=4, classes=classes, mean=mean, std=std, size=size, width=width, bias=bias
    )
