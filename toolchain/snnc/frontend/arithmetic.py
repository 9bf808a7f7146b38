"""Rules for + - * /: sums of maps, factors of maps, and constants applied to the pixels.

Pixels are tracked as y = (x - m) / s for each channel, which stays of that form:

    y + c = (x - (m - s c)) / s        y * c = (x - m) / (s / c)
    y - c = (x - (m + s c)) / s        y / c = (x - m) / (s c)

A factor of what neurons emit is a synapse of that weight from each neuron to its place in
the map; a factor of any other map is a batch norm with that gain and no statistics.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from snnc.frontend.advice import PRODUCT
from snnc.frontend.sites import Map, Result, Scaling, Site, array, refuse
from snnc.ir.graph import Add, BatchNorm, Identity, Op
from snnc.ir.weights import FloatArray, Shape, floats, scale_rows
from snnc.passes.rewrite import diagonal

Operand = Map | Tensor | int | float


def add(site: Site, input: Operand, other: Operand, *, alpha: float = 1) -> Result:
    """`input + other`, of two maps of equal shape, or of pixels and a constant."""
    _plain(alpha)
    match input, other:
        case Map(), Map():
            if input.shape != other.shape:
                refuse(
                    f"adds maps of shapes {input.shape} and {other.shape}",
                    "make the shapes equal, for example with a 1x1 convolution",
                )
            return (Add(),)
        case (Map() as image, constant) | (constant, Map() as image):
            return _shifted(image, constant, -1.0)
        case _:
            refuse("adds no map", "compute constants in __init__")


def subtract(site: Site, input: Operand, other: Operand, *, alpha: float = 1) -> Result:
    """`input - other`, of pixels and a constant."""
    _plain(alpha)
    match input, other:
        case Map(), Map():
            refuse("subtracts maps", "add them, and let the weights before one carry the sign")
        case Map(), _:
            return _shifted(input, other, 1.0)
        case _:
            refuse("subtracts a map from a constant", "write (x - c) and let the weights negate")


def multiply(site: Site, input: Operand, other: Operand) -> Result:
    """`input * other`, of a map and a constant, one for all channels or one for each."""
    match input, other:
        case Map(), Map():
            refuse(*PRODUCT)
        case (Map() as image, constant) | (constant, Map() as image):
            return _stretched(image, constant, divide_by=False)
        case _:
            refuse("multiplies no map", "compute constants in __init__")


def divide(site: Site, input: Operand, other: Operand) -> Result:
    """`input / other`, of a map and a constant, one for all channels or one for each."""
    match input, other:
        case Map(), Map():
            refuse(*PRODUCT)
        case Map(), _:
            return _stretched(input, other, divide_by=True)
        case _:
            refuse("divides by a map", "use only sums of maps (x + y)")


def _shifted(image: Map, constant: Operand, sign: float) -> Result:
    """Subtract sign * constant."""
    values = _per_channel(constant, image.shape)
    if image.scaling is None:
        return _unchanged(values)
    mean, std = image.scaling.mean, image.scaling.std
    return Scaling(mean=floats(mean + sign * std * values), std=std)


def _stretched(image: Map, constant: Operand, *, divide_by: bool) -> Result:
    values = _per_channel(constant, image.shape)
    if image.scaling is None:
        with np.errstate(divide="ignore"):  # infinity is refused below
            return (_factor(image, floats(1.0 / values if divide_by else values)),)
    if not (np.isfinite(values) & (values > 0)).all():
        refuse("scales pixels by a number that is not positive", "use a positive finite number")
    mean, std = image.scaling.mean, image.scaling.std
    return Scaling(mean=mean, std=floats(std * values if divide_by else std / values))


def _unchanged(values: FloatArray) -> Result:
    """Accept + 0 (Python's `sum` begins with 0); refuse other constants."""
    if (values == 0.0).all():
        return (Identity(),)
    refuse(
        "adds a constant in the middle of the network",
        "move it into the bias before it, or use batch norm; on the input it is a normalisation",
    )


def _factor(image: Map, values: FloatArray) -> Op:
    """Return the op that multiplies each channel of a map by its value."""
    if (values == 1.0).all():
        return Identity()
    if not np.isfinite(values).all():
        refuse("scales a map by a number that is not finite", "divide by numbers other than 0")
    if image.fires:
        synapses = diagonal(image.shape, 1.0)
        return replace(synapses, weight=scale_rows(synapses.weight, values))
    zeros, ones = floats(np.zeros_like(values)), floats(np.ones_like(values))
    return BatchNorm(gain=values, shift=zeros, mean=zeros, var=ones, eps=0.0)


def _per_channel(constant: Operand, shape: Shape) -> FloatArray:
    """Return a constant that broadcasts along channels only as (channels,)."""
    values = array(constant) if isinstance(constant, Tensor) else np.asarray(constant, np.float64)
    rank = len(shape) + 1
    if values.ndim <= rank:
        aligned = values.reshape((1,) * (rank - values.ndim) + values.shape)
        if aligned.size in (1, shape[0]) and aligned.size == aligned[0].shape[0]:
            return np.broadcast_to(aligned.reshape(-1), shape[:1])
    refuse(
        f"applies a constant of shape {values.shape} to a map of shape {shape}",
        f"use one value, or one for each channel: {(shape[0], *[1] * (len(shape) - 1))}",
    )


def _plain(alpha: float) -> None:
    if alpha != 1:
        refuse(f"scales by alpha={alpha}", "leave out alpha, let the weights scale")
