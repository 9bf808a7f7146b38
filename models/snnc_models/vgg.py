"""VGG networks with average pooling, in the shapes of the two papers.

    name                    plan of the convolutions                          linear layers
    vgg11                   64 A 128 256 A 512 512 512 A 512 512              4096 4096 C
    vgg16                   64 64 A 128 128 A 256x3 A 512x3 A 512x3 A         4096 4096 C
    vgg16_hydra             64 64 A 128 128 A 256x3 A 512x3 A 512x3           256 256 C
    vgg11_tinyimagenet      64 A 128 A 256 256 A 512 512 A 512 512, mean      4096 C

A is a 2x2 average pooling, C the number of classes. The first two and the last are
`vgg11_bn`, `vgg16_bn` and `vgg11_tin` of the code of Ozdenizci & Legenstein (TMLR 2024).
`vgg16_hydra` is the shape of HYDRA and HARP, which Schmolli et al. (CPAL 2025) prune: at
32x32 it has 15,302,848 weights and 276,992 spiking neurons, the number in their section 5.4.

Every convolution is 3x3 and followed by batch norm and ReLU. Layers that hold weights are
numbered through: conv1, conv2, ..., linear9, ..., readout.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from snnc.learn.neurons import Normalize
from torch import nn

from snnc_models import arguments
from snnc_models.initial import draw_convolutions

POOL = 0  # in a plan, among channels in units of the first layer's
VGG11 = (1, POOL, 2, 4, POOL, 8, 8, 8, POOL, 8, 8)
VGG11_TINYIMAGENET = (1, POOL, 2, POOL, 4, 4, POOL, 8, 8, POOL, 8, 8)
VGG16_HYDRA = (1, 1, POOL, 2, 2, POOL, 4, 4, 4, POOL, 8, 8, 8, POOL, 8, 8, 8)
VGG16 = (*VGG16_HYDRA, POOL)


def vgg11(
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    width: int = 64,
    hidden: int = 4096,
    dropout: float = 0.2,
    bias: bool = False,
) -> nn.Module:
    """Return VGG-11 as the authors of TMLR 2024 released it: three poolings, two hidden layers.

    `mean` and `std`, one for each input channel, normalise images of `size` x `size` inside
    the network. `width` is the number of channels of the first convolution, the others have
    2, 4 and 8 times as many; `hidden` is the width of the linear layers, each of which
    `dropout` follows. With `bias`, convolutions and linear layers have one.

    Raises:
        InvalidSetting: a number is not positive, `dropout` is outside [0, 1), `size` does not
            divide by 8, or `mean` and `std` do not normalise.
    """
    return _vgg(
        "vgg11",
        VGG11,
        (hidden, hidden),
        classes=classes,
        mean=mean,
        std=std,
        size=size,
        width=width,
        dropout=dropout,
        bias=bias,
        average=False,
    )


def vgg16(
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    width: int = 64,
    hidden: int = 4096,
    dropout: float = 0.2,
    bias: bool = False,
) -> nn.Module:
    """Return VGG-16 as the authors of TMLR 2024 released it: five poolings, two hidden layers.

    Arguments and errors are those of `vgg11`; `size` must divide by 32.
    """
    return _vgg(
        "vgg16",
        VGG16,
        (hidden, hidden),
        classes=classes,
        mean=mean,
        std=std,
        size=size,
        width=width,
        dropout=dropout,
        bias=bias,
        average=False,
    )


def vgg16_hydra(
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    width: int = 64,
    hidden: int = 256,
    dropout: float = 0.0,
    bias: bool = False,
) -> nn.Module:
    """Return VGG-16 in the shape of HYDRA: four poolings, two narrow hidden layers, no dropout.

    HYDRA takes maxima where this network averages, as the papers' spiking networks do: a
    maximum of spikes is no sum. Arguments and errors are those of `vgg11`; `size` must divide
    by 16.
    """
    return _vgg(
        "vgg16_hydra",
        VGG16_HYDRA,
        (hidden, hidden),
        classes=classes,
        mean=mean,
        std=std,
        size=size,
        width=width,
        dropout=dropout,
        bias=bias,
        average=False,
    )


def vgg11_tinyimagenet(
    *,
    classes: int = 200,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 64,
    width: int = 64,
    hidden: int = 4096,
    bias: bool = False,
) -> nn.Module:
    """Return VGG-11 for TinyImageNet: four poolings, the mean of each map, one hidden layer.

    Arguments and errors are those of `vgg11`; `size` must divide by 16.
    """
    return _vgg(
        "vgg11_tinyimagenet",
        VGG11_TINYIMAGENET,
        (hidden,),
        classes=classes,
        mean=mean,
        std=std,
        size=size,
        width=width,
        dropout=0.0,
        bias=bias,
        average=True,
    )


def _vgg(
    name: str,
    plan: Sequence[int],
    hidden: Sequence[int],
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int,
    width: int,
    dropout: float,
    bias: bool,
    average: bool,
) -> nn.Module:
    """Return the network of a plan; with `average` the classifier reads the mean of each map."""
    arguments.require(name, arguments.counts(classes=classes, size=size, width=width))
    arguments.require(name, arguments.counts(hidden=hidden[0]))
    poolings = plan.count(POOL)
    problems = arguments.divides(size, 2**poolings, f"{poolings} poolings")
    arguments.require(name, [*problems, *arguments.shares(dropout)])
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize(mean, std))
    number, before = 0, len(mean)
    for multiple in plan:
        if multiple == POOL:
            layers[f"pool{number}"] = nn.AvgPool2d(2)
            continue
        number, after = number + 1, width * multiple
        layers[f"conv{number}"] = nn.Conv2d(before, after, 3, padding=1, bias=bias)
        layers[f"norm{number}"] = nn.BatchNorm2d(after)
        layers[f"relu{number}"] = nn.ReLU()
        before = after
    if average:
        layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    before *= 1 if average else (size // 2**poolings) ** 2
    for after in hidden:
        number += 1
        layers[f"linear{number}"] = nn.Linear(before, after, bias=bias)
        layers[f"relu{number}"] = nn.ReLU()
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        before = after
    layers["readout"] = nn.Linear(before, classes, bias=bias)
    network = nn.Sequential(layers)
    draw_convolutions(network)
    return network
