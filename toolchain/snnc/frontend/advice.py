"""What to use instead of the modules and functions that have no place in the graph."""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

Advice = tuple[str, str]  # (problem, remedy)

MAXIMUM: Advice = (
    "takes a maximum, and a maximum of spikes is no sum, the one thing a synapse computes",
    "use average pooling (nn.AvgPool2d) or a convolution with stride, and train again",
)
NONLINEAR: Advice = (
    "is a nonlinearity that a firing rate cannot follow",
    "use nn.ReLU and train again",
)
PROBABILITY: Advice = (
    "turns logits into probabilities",
    "return the logits; the largest stays the largest",
)
IMAGE_STATISTICS: Advice = (
    "takes statistics of each image as it runs",
    "use nn.BatchNorm2d, whose statistics are fixed after training",
)
DIMENSIONS: Advice = (
    "is not a layer of two-dimensional maps",
    "use nn.Conv2d or nn.AvgPool2d on (C, H, W) maps",
)
PADDING: Advice = (
    "pads outside of a convolution",
    "use the padding of nn.Conv2d",
)
GROWTH: Advice = (
    "enlarges maps",
    "keep the resolution, or make it smaller with stride or average pooling",
)
RECURRENT: Advice = (
    "is recurrent or attends over a sequence",
    "use a feed-forward network of convolutions and linear layers",
)
JOIN: Advice = (
    "joins maps side by side",
    "add maps of equal shape (x + y)",
)
PRODUCT: Advice = (
    "multiplies or divides two maps that both depend on the image",
    "use only sums of maps (x + y)",
)
PARAMETRIZED: Advice = (
    "computes its weights as it runs",
    "make them permanent with torch.nn.utils.parametrize.remove_parametrizations",
)
OTHER: Advice = (
    "has no rule in the torch frontend",
    "use Conv2d, Linear, BatchNorm, ReLU, average pooling, flatten, dropout or the sum of maps",
)

# Keys are module classes, functions, and names of tensor methods.
ADVICE: dict[object, Advice] = {
    **dict.fromkeys(
        (
            nn.MaxPool1d,
            nn.MaxPool2d,
            nn.AdaptiveMaxPool1d,
            nn.AdaptiveMaxPool2d,
            nn.FractionalMaxPool2d,
            F.max_pool1d,
            F.max_pool2d,
            F.adaptive_max_pool2d,
            torch.max_pool1d,
            torch.max_pool2d,
            torch.max,
            torch.amax,
            torch.maximum,
            "max",
            "amax",
        ),
        MAXIMUM,
    ),
    **dict.fromkeys(
        (
            nn.CELU,
            nn.ELU,
            nn.GELU,
            nn.GLU,
            nn.Hardsigmoid,
            nn.Hardswish,
            nn.Hardtanh,
            nn.LeakyReLU,
            nn.Mish,
            nn.PReLU,
            nn.ReLU6,
            nn.RReLU,
            nn.SELU,
            nn.Sigmoid,
            nn.SiLU,
            nn.Softplus,
            nn.Tanh,
            F.elu,
            F.gelu,
            F.hardswish,
            F.hardtanh,
            F.leaky_relu,
            F.mish,
            F.relu6,
            F.selu,
            F.sigmoid,
            F.silu,
            F.softplus,
            F.tanh,
            torch.clamp,
            torch.sigmoid,
            torch.tanh,
            "clamp",
            "sigmoid",
            "tanh",
        ),
        NONLINEAR,
    ),
    **dict.fromkeys(
        (
            nn.LogSoftmax,
            nn.Softmax,
            F.log_softmax,
            F.softmax,
            torch.log_softmax,
            torch.softmax,
            "log_softmax",
            "softmax",
        ),
        PROBABILITY,
    ),
    **dict.fromkeys(
        (
            nn.GroupNorm,
            nn.InstanceNorm1d,
            nn.InstanceNorm2d,
            nn.LayerNorm,
            nn.LocalResponseNorm,
            F.group_norm,
            F.instance_norm,
            F.layer_norm,
            F.local_response_norm,
            F.normalize,
        ),
        IMAGE_STATISTICS,
    ),
    **dict.fromkeys(
        (
            nn.AvgPool1d,
            nn.AvgPool3d,
            nn.BatchNorm3d,
            nn.Conv1d,
            nn.Conv3d,
            F.avg_pool1d,
            F.avg_pool3d,
            F.conv1d,
            F.conv3d,
        ),
        DIMENSIONS,
    ),
    **dict.fromkeys(
        (nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d, F.pad), PADDING
    ),
    **dict.fromkeys(
        (
            nn.ConvTranspose2d,
            nn.PixelShuffle,
            nn.Upsample,
            F.conv_transpose2d,
            F.interpolate,
            F.pixel_shuffle,
        ),
        GROWTH,
    ),
    **dict.fromkeys(
        (nn.GRU, nn.LSTM, nn.RNN, nn.MultiheadAttention, F.scaled_dot_product_attention), RECURRENT
    ),
    **dict.fromkeys((torch.cat, torch.concat, torch.stack, torch.hstack), JOIN),
    **dict.fromkeys((torch.matmul, torch.bmm, operator.matmul, "matmul", "bmm"), PRODUCT),
}


def advice(target: object) -> Advice:
    """Return why a module, a function or a tensor method is refused, and the way out."""
    if isinstance(target, nn.Module):
        if parametrize.is_parametrized(target):
            return PARAMETRIZED
        return ADVICE.get(type(target), OTHER)
    return ADVICE.get(target, OTHER)
