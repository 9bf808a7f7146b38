"""How the image becomes codes, and what that does to the weights that read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidGraph, Issue
from snnc.ir.graph import Conv2d, Graph, Input, Linear, Normalize, Synaptic
from snnc.ir.program import ImageInput
from snnc.ir.weights import FloatArray, FloatWeight, Shape, floats, integers, scale_columns, unpack


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageCoding:
    """Codes, and the affine map from the normalised image to them, per channel.

    code = unit * normalised + offset, up to the rounding of the pixel.
    """

    codes: ImageInput
    unit: FloatArray  # (channels,) levels * std
    offset: FloatArray  # (channels,) levels * mean - zero_point, within 1/2

    @property
    def peak(self) -> int:
        """The largest magnitude of a code."""
        return self.codes.peak


def image_coding(graph: Graph, levels: int) -> ImageCoding:
    """Return the coding with `levels` steps of grey for a graph.

    Raises:
        InvalidGraph: the graph normalises anything but the image, or reads the image both
            normalised and raw.
    """
    image = graph.nodes[0]
    assert isinstance(image.op, Input)  # noqa: S101 - made sure of by check_graph
    normalizers = [node for node in graph.nodes if isinstance(node.op, Normalize)]
    mixed = [node for node in graph.nodes if image.name in node.inputs and node not in normalizers]
    if any(node.inputs != (image.name,) for node in normalizers) or len(normalizers) > 1:
        raise InvalidGraph(
            [
                Issue(
                    normalizers[-1].name,
                    "normalises something else than the image, or the image a second time",
                    "normalise the image once, first",
                    "normalize",
                )
            ]
        )
    if normalizers and mixed:
        raise InvalidGraph(
            [
                Issue(
                    mixed[0].name,
                    "reads the image before its normalisation",
                    "read the normalised image everywhere",
                    "normalize",
                )
            ]
        )
    channels = image.op.shape[0]
    mean, std = np.zeros(channels), np.ones(channels)
    for node in normalizers:
        assert isinstance(node.op, Normalize)  # noqa: S101 - chosen above
        mean, std = node.op.mean, node.op.std
    zero_point = np.rint(levels * mean)
    return ImageCoding(
        codes=ImageInput(shape=image.op.shape, levels=levels, zero_point=integers(zero_point)),
        unit=floats(levels * std),
        offset=floats(levels * mean - zero_point),
    )


def absorb(op: Synaptic, coding: ImageCoding) -> tuple[FloatWeight, FloatArray]:
    """Return weight and bias of synapses that read codes instead of the normalised image.

        w (pixel - mean) / std  =  w / unit * (code - offset)

    The offset joins the bias. Where a convolution pads, a padded tap stands for a normalised
    0 and has no offset, so border neurons err by w / unit * offset for each padded tap, with
    |offset| <= 1/2; there is no error where levels * mean is an integer.
    """
    channel = _channel_of_each(op, coding.codes.shape)
    weight = scale_columns(op.weight, floats(1.0 / coding.unit[channel]))
    constant = unpack(weight).reshape(len(op.bias), -1) * coding.offset[channel]
    return weight, floats(op.bias - constant.sum(axis=1))


def release(op: Conv2d | Linear, coding: ImageCoding) -> Conv2d | Linear:
    """Return synapses that read the normalised image from ones that read codes.

    The inverse of `absorb`, up to rounding.
    """
    channel = _channel_of_each(op, coding.codes.shape)
    constant = unpack(op.weight).reshape(len(op.bias), -1) * coding.offset[channel]
    weight = scale_columns(op.weight, floats(coding.unit[channel]))
    return replace(op, weight=weight, bias=floats(op.bias + constant.sum(axis=1)))


def _channel_of_each(op: Synaptic, shape: Shape) -> npt.NDArray[np.int64]:
    """Return the image channel that each weight (out, flattened in) reads."""
    if isinstance(op, Linear):
        row = np.repeat(np.arange(shape[0]), prod(shape[1:]))
        return np.broadcast_to(row, (len(op.bias), row.size))
    inputs, taps = op.weight.shape[1], prod(op.weight.shape[2:])
    group = np.arange(len(op.bias)) // (len(op.bias) // op.groups)
    return group[:, None] * inputs + np.repeat(np.arange(inputs), taps)[None]
