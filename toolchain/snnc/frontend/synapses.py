"""Rules for what holds weights: convolution, matrix, batch norm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from snnc.frontend.sites import Map, Pair, Result, Site, array, pair, refuse
from snnc.ir.graph import BatchNorm, Conv2d, Linear
from snnc.ir.weights import FloatArray, floats, pack

Two = int | tuple[int, ...]


def conv2d(
    site: Site,
    input: Map,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Two = 1,
    padding: str | Two = 0,
    dilation: Two = 1,
    groups: int = 1,
) -> Result:
    """`F.conv2d` without dilation, with the same padding on both sides."""
    constant("the weight", weight)
    if pair(dilation) != (1, 1):
        refuse(f"has dilation {pair(dilation)}", "use dilation 1 and a larger kernel or stride")
    return (
        Conv2d(
            weight=pack(array(weight)),
            bias=_bias(bias, weight.shape[0]),
            stride=pair(stride),
            padding=_padding(padding, (weight.shape[2], weight.shape[3])),
            groups=groups,
        ),
    )


def conv2d_module(site: Site, module: nn.Conv2d, input: Map) -> Result:
    """`nn.Conv2d` with zero padding."""
    if module.padding_mode != "zeros":
        refuse(f"pads with mode {module.padding_mode!r}", "use padding_mode='zeros'")
    return conv2d(
        site,
        input,
        module.weight,
        module.bias,
        module.stride,
        module.padding,
        module.dilation,
        module.groups,
    )


def linear(site: Site, input: Map, weight: Tensor, bias: Tensor | None = None) -> Result:
    """`F.linear` on flat inputs."""
    constant("the weight", weight)
    if len(input.shape) != 1:
        refuse(
            f"multiplies the last dimension of a map of shape {input.shape}",
            "flatten the map first (nn.Flatten())",
        )
    return (Linear(weight=pack(array(weight)), bias=_bias(bias, weight.shape[0])),)


def linear_module(site: Site, module: nn.Linear, input: Map) -> Result:
    """`nn.Linear` on flat inputs."""
    return linear(site, input, module.weight, module.bias)


def batch_norm(
    site: Site,
    input: Map,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Result:
    """`F.batch_norm` with running statistics; momentum plays no part in them at inference."""
    if training or running_mean is None or running_var is None:
        refuse(
            "has no running statistics, so its output depends on the other images of a batch",
            "use track_running_stats=True and train again",
        )
    constant("the running mean", running_mean)
    if len(input.shape) not in (1, 3):
        refuse(f"normalises a map of shape {input.shape}", "normalise (C, H, W) or (neurons,)")
    ones, zeros = np.ones(input.shape[0]), np.zeros(input.shape[0])
    return (
        BatchNorm(
            gain=ones if weight is None else array(weight),
            shift=zeros if bias is None else array(bias),
            mean=array(running_mean),
            var=array(running_var),
            eps=eps,
        ),
    )


def batch_norm_module(site: Site, module: nn.BatchNorm1d | nn.BatchNorm2d, input: Map) -> Result:
    """`nn.BatchNorm1d` or `nn.BatchNorm2d` with running statistics."""
    return batch_norm(
        site,
        input,
        module.running_mean,
        module.running_var,
        module.weight,
        module.bias,
        eps=module.eps,
    )


def composed(first: BatchNorm, second: BatchNorm) -> BatchNorm:
    """Return the batch norm that does what two in a row do.

    With k = gain2 / sqrt(var2 + eps2), the second is y -> k (y - mean2) + shift2, so

        gain = k gain1        shift = k (shift1 - mean2) + shift2

    and the statistics are those of the first.
    """
    factor = second.gain / np.sqrt(second.var + second.eps)
    return replace(
        first,
        gain=floats(factor * first.gain),
        shift=floats(factor * (first.shift - second.mean) + second.shift),
    )


def constant(what: str, value: object) -> None:
    """Refuse weights that are computed from the image."""
    if isinstance(value, Map):
        refuse(f"computes {what} from the image", "use parameters that are the same for all images")


def _bias(bias: Tensor | None, outputs: int) -> FloatArray:
    constant("the bias", bias)
    return np.zeros(outputs) if bias is None else array(bias)


def _padding(padding: str | Two, kernel: Pair) -> Pair:
    """Return the zeros on each side; 'same' has stride 1, which PyTorch makes sure of."""
    if padding == "valid":
        return 0, 0
    if padding != "same":
        return pair(padding)
    if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
        refuse(
            f"padding 'same' of a {kernel[0]}x{kernel[1]} kernel differs between the two sides",
            "use an odd kernel, or give the padding as a number",
        )
    return kernel[0] // 2, kernel[1] // 2
