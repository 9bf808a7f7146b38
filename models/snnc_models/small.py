"""A small convolutional network for small images: seconds to train, every layer deployable."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from snnc.errors import InvalidSetting
from snnc.learn.neurons import Normalize
from torch import nn


def small_conv(
    *,
    channels: Sequence[int] = (32, 64, 64),
    pool_after: Sequence[int] = (1, 3),
    in_channels: int = 1,
    size: int = 8,
    classes: int = 10,
    mean: Sequence[float] = (0.3057,),
    std: Sequence[float] = (0.3765,),
) -> nn.Module:
    """Return blocks of 3x3 convolution, batch norm and ReLU, and one linear layer.

    An average pooling of 2x2 follows each block whose number, from 1, is in `pool_after`,
    so `size` (height and width of the images) must divide by 2 that many times. `mean` and
    `std` normalise each input channel inside the network; the defaults are those of the
    digits' training images. Convolutions have no bias: batch norm adds one.

    Raises:
        InvalidSetting: no channels, a pooling after no block, or a size that cannot be
            halved that often.
    """
    pools = set(pool_after)
    if not channels or not pools <= set(range(1, len(channels) + 1)) or size % 2 ** len(pools):
        raise InvalidSetting(
            f"small_conv: {len(channels)} blocks, pooling after {sorted(pools)}, images "
            f"{size}x{size}; pool after blocks that exist, once for each time the size halves"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize(mean, std))
    inputs = (in_channels, *channels[:-1])
    for block, (before, after) in enumerate(zip(inputs, channels, strict=True), start=1):
        layers[f"conv{block}"] = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers[f"norm{block}"] = nn.BatchNorm2d(after)
        layers[f"relu{block}"] = nn.ReLU()
        if block in pools:
            layers[f"pool{block}"] = nn.AvgPool2d(2)
            size //= 2
    layers["flatten"] = nn.Flatten()
    layers["readout"] = nn.Linear(channels[-1] * size**2, classes)
    return nn.Sequential(layers)
