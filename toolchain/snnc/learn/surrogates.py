"""Surrogates as data: what stands in for the derivative of the spike.

The forward pass is always the step H(u), with H(0) = 1 and u = v - threshold; only the
backward pass depends on the surrogate. Changing a surrogate never changes a spike.

    shape              do/du                              source
    triangle           (1 / w^2) max(0, w - |u|)          "PCW" in RobustSNNConversion
    exp                exp(-w |u|)                        "EXP", 1.0 before the exponential
    exp_damped         0.3 exp(-w |u|)                    "EXP-D", 0.3 before the exponential
    box                (1 / w) [ |u| < w / 2 ]            "RECT"; the inequality is strict
    straight_through   1                                  "STE"; the width means nothing

These are the five shapes of the ensemble attack of Ozdenizci and Legenstein, TMLR 2024
(arXiv 2311.09266), and of Schmolli et al., CPAL 2025 (arXiv 2505.15833), appendix A.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from snnc.errors import InvalidSetting, unreachable

Shape = Literal["triangle", "exp", "exp_damped", "box", "straight_through"]

DAMPING = 0.3  # the height of EXP-D at u = 0, from the released code


@dataclass(frozen=True)
class Surrogate:
    """One shape at one width. `width` is w of the table: a length, or a rate for `exp`.

    Raises InvalidSetting unless `width` is a positive number.
    """

    shape: Shape
    width: float

    def __post_init__(self) -> None:
        if not (isfinite(self.width) and self.width > 0):
            raise InvalidSetting(f"surrogate {self.shape}: width is {self.width}; take one above 0")


TRIANGLE = Surrogate("triangle", 1.0)  # trains and finetunes in both papers


def derivative(u: Tensor, surrogate: Surrogate) -> Tensor:
    """Return do/du at each u.

    >>> derivative(torch.tensor([-0.5, 0.0, 0.2, 1.0]), TRIANGLE)
    tensor([0.5000, 1.0000, 0.8000, 0.0000])
    """
    w = surrogate.width
    match surrogate.shape:
        case "triangle":
            return (w - u.abs()).clamp_(min=0).div_(w**2)
        case "exp":
            return torch.exp(-w * u.abs())
        case "exp_damped":
            return DAMPING * torch.exp(-w * u.abs())
        case "box":
            return (u.abs() < w / 2).to(u.dtype) / w
        case "straight_through":
            return torch.ones_like(u)
        case _:
            unreachable(surrogate.shape)


class _Context(FunctionCtx):
    """What the backward pass needs to know."""

    surrogate: Surrogate
    saved_tensors: tuple[Tensor, ...]


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, u: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return gradients[0] * derivative(u, ctx.surrogate), None


def spike(u: Tensor, surrogate: Surrogate) -> Tensor:
    """Return H(u), 1 where u >= 0 and else 0, whose backward pass is the surrogate's."""
    spikes: Tensor = _Spike.apply(u, surrogate)  # type: ignore[no-untyped-call]
    return spikes
