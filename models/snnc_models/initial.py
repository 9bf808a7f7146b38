"""The weights that the larger networks start from, drawn from torch's random stream."""

from __future__ import annotations

from torch import nn


def draw_convolutions(network: nn.Module) -> None:
    """Draw every convolution anew, in place: He normal, variance 2 / (outputs x kernel area).

    Other layers keep what PyTorch drew; biases of convolutions become 0. Source: the networks
    of the code of Ozdenizci & Legenstein (TMLR 2024).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
