"""Small networks for small images: seconds to minutes of training, every layer deployable."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from snnc.learn.neurons import Normalize
from torch import nn

from snnc_models import arguments


def small_conv(
    *,
    channels: Sequence[int] = (32, 64, 64),
    pool_after: Sequence[int] = (1, 3),
    kernels: int | Sequence[int] = 3,
    strides: int | Sequence[int] = 1,
    in_channels: int = 1,
    size: int = 8,
    classes: int = 10,
    mean: Sequence[float] = (0.3057,),
    std: Sequence[float] = (0.3765,),
) -> nn.Module:
    """Return blocks of convolution, batch norm and ReLU, and one linear layer.

    `kernels` and `strides` are one number for all blocks or one for each. Kernels are odd and
    padded by half, so a block of stride 1 keeps the size of its map and one of stride s makes
    it ceil(size / s). An average pooling of 2x2 follows each block whose number, from 1, is
    in `pool_after`; the map there must have an even size. `size` is height and width of the
    images. `mean` and `std` normalise each input channel inside the network; the defaults are
    those of the digits' training images. Convolutions have no bias: batch norm adds one.

    Raises:
        InvalidSetting: no channels, lengths that do not fit each other, a pooling after no
            block or of an odd size, or a number that is not positive.
    """
    blocks, pools = len(channels), set(pool_after)
    kernel, stride = _each(kernels, blocks), _each(strides, blocks)
    problems = [
        *arguments.counts(in_channels=in_channels, size=size, classes=classes),
        *_block_problems(channels, kernel, stride, pools),
        *arguments.channels(in_channels, mean),
    ]
    arguments.require("small_conv", problems)
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize(mean, std))
    before = in_channels
    for block, (after, k, s) in enumerate(zip(channels, kernel, stride, strict=True), start=1):
        layers[f"conv{block}"] = nn.Conv2d(before, after, k, s, padding=k // 2, bias=False)
        layers[f"norm{block}"] = nn.BatchNorm2d(after)
        layers[f"relu{block}"] = nn.ReLU()
        before, size = after, -(-size // s)
        if block in pools:
            arguments.require("small_conv", _odd(size, block))
            layers[f"pool{block}"] = nn.AvgPool2d(2)
            size //= 2
    layers["flatten"] = nn.Flatten()
    layers["readout"] = nn.Linear(before * size**2, classes)
    return nn.Sequential(layers)


def small_dense(
    *,
    hidden: Sequence[int] = (256, 256),
    in_channels: int = 1,
    size: int = 28,
    classes: int = 10,
    mean: Sequence[float],
    std: Sequence[float],
) -> nn.Module:
    """Return linear layers with batch norm and ReLU, as wide as `hidden`, and a linear readout.

    Raises:
        InvalidSetting: no hidden layer, a number that is not positive, or not one mean for
            each input channel.
    """
    widths = {f"hidden[{index}]": width for index, width in enumerate(hidden)}
    problems = [
        *(() if hidden else ("no hidden layer, give at least one width",)),
        *arguments.counts(in_channels=in_channels, size=size, classes=classes, **widths),
        *arguments.channels(in_channels, mean),
    ]
    arguments.require("small_dense", problems)
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize(mean, std))
    layers["flatten"] = nn.Flatten()
    before = in_channels * size**2
    for block, after in enumerate(hidden, start=1):
        layers[f"linear{block}"] = nn.Linear(before, after, bias=False)
        layers[f"norm{block}"] = nn.BatchNorm1d(after)
        layers[f"relu{block}"] = nn.ReLU()
        before = after
    layers["readout"] = nn.Linear(before, classes)
    return nn.Sequential(layers)


def _each(value: int | Sequence[int], blocks: int) -> list[int]:
    return [value] * blocks if isinstance(value, int) else list(value)


def _block_problems(
    channels: Sequence[int], kernels: list[int], strides: list[int], pools: set[int]
) -> Iterator[str]:
    blocks = len(channels)
    if not blocks:
        yield "no channels, give one number for each block"
    for name, values in (("channels", channels), ("kernels", kernels), ("strides", strides)):
        if len(values) != blocks:
            yield f"{len(values)} {name} for {blocks} blocks, give one for all or one for each"
        yield from arguments.counts(**{f"{name}[{i}]": value for i, value in enumerate(values)})
    if even := [kernel for kernel in kernels if kernel % 2 == 0]:
        yield f"kernels of size {even}, give odd ones"
    if not pools <= set(range(1, blocks + 1)):
        yield f"pooling after {sorted(pools)}, name some of the {blocks} blocks, from 1"


def _odd(size: int, block: int) -> Iterator[str]:
    if size % 2:
        yield f"pooling after block {block} of a map of {size}x{size}, make it even"
