"""The learned sum that joins the two branches of a residual block."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightedSum(nn.Module):
    """y = a * shortcut + b * branch, with two learned numbers that start at 1/2.

    Nothing bounds a and b, and they need not add up to 1. Source: `ConvexCombination` of the
    code of Ozdenizci & Legenstein (TMLR 2024), which stays unconstrained in spite of its name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Parameter(torch.tensor(0.5))
        self.branch = nn.Parameter(torch.tensor(0.5))

    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        """Return the sum of two maps of equal shape."""
        return shortcut * self.shortcut + branch * self.branch
