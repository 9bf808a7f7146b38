"""Rules for what averages neighbours."""

from __future__ import annotations

from typing import Any

from torch import nn

from snnc.frontend.sites import Map, Result, Site, pair, refuse
from snnc.ir.graph import AvgPool2d, Flatten


def avg_pool2d(
    site: Site,
    input: Map,
    kernel_size: Any,  # noqa: ANN401 - a number, two, or a torch.Size
    stride: Any = None,  # noqa: ANN401
    padding: Any = 0,  # noqa: ANN401
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Result:
    """`F.avg_pool2d` over whole windows; `count_include_pad` means nothing without padding."""
    _two_dimensional(input)
    kernel = pair(kernel_size)
    if pair(padding) != (0, 0):
        refuse("pads before it averages", "use padding=0, or pad in the convolution before it")
    if ceil_mode:
        refuse("averages windows that reach over the border", "use ceil_mode=False")
    if divisor_override not in (None, kernel[0] * kernel[1]):
        refuse(f"divides by {divisor_override}", "leave out divisor_override")
    return (AvgPool2d(kernel=kernel, stride=pair(stride) if stride else kernel),)


def avg_pool2d_module(site: Site, module: nn.AvgPool2d, input: Map) -> Result:
    """`nn.AvgPool2d` over whole windows."""
    return avg_pool2d(
        site,
        input,
        module.kernel_size,
        module.stride,
        module.padding,
        module.ceil_mode,
        module.count_include_pad,
        module.divisor_override,
    )


def adaptive_avg_pool2d(site: Site, input: Map, output_size: object) -> Result:
    """`F.adaptive_avg_pool2d` when all its windows are equal and do not overlap."""
    _two_dimensional(input)
    before, after = input.shape[1:], site.shape[1:]
    if any(size % windows for size, windows in zip(before, after, strict=True)):
        refuse(
            f"averages windows of different sizes, {before} to {after}",
            "choose an output size that divides the map's",
        )
    kernel = (before[0] // after[0], before[1] // after[1])
    return (AvgPool2d(kernel=kernel, stride=kernel),)


def adaptive_avg_pool2d_module(site: Site, module: nn.AdaptiveAvgPool2d, input: Map) -> Result:
    """`nn.AdaptiveAvgPool2d` when all its windows are equal."""
    return adaptive_avg_pool2d(site, input, module.output_size)


def mean(site: Site, input: Map, dim: object = None, keepdim: bool = False) -> Result:
    """`torch.mean` over height and width: global average pooling."""
    match dim:
        case [int(first), int(second)] if {first % 4, second % 4} == {2, 3}:
            _two_dimensional(input)
        case _:
            refuse(f"averages over dim={dim}", "average over height and width: dim=(2, 3)")
    whole = (input.shape[1], input.shape[2])
    pool = AvgPool2d(kernel=whole, stride=whole)
    return (pool,) if keepdim else (pool, Flatten())


def _two_dimensional(input: Map) -> None:
    if len(input.shape) != 3:
        refuse(f"averages over a map of shape {input.shape}", "average over (C, H, W) maps")
