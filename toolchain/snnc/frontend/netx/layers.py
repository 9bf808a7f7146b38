"""From the records of a netx file to layers with checked, whole numbers.

Every field is read for what lava-dl 0.6.0 does with it (`lava/lib/dl/netx/hdf5.py`); a field
that netx ignores, and that would change what the layer computes if somebody honoured it, must
have the value at which both agree. All that is wrong with a file is collected, not only the
first thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from snnc.errors import Issue, nearest
from snnc.frontend.netx.fields import AGAIN, HUGE, NEURONS, Fields, Whole
from snnc.frontend.netx.file import Record, Value
from snnc.frontend.netx.synapses import BYTE, delivered
from snnc.ir.program import FORGET
from snnc.ir.rules import Broken
from snnc.ir.weights import IntArray, Shape, integers

DELAY_MAX = 62  # netx clips what is above
BIAS_MIN, BIAS_MAX = -(1 << 15), (1 << 15) - 1  # lava-nc stores the mantissa as int16
VTH_MAX = 1 << 17  # from here on a neuron never spikes: 24 bits end below
_TRAINING = {"scaleRho", "tauRho", "theta"}  # of the surrogate gradient
_NEURON = {"type", "iDecay", "vDecay", "vThMant", "refDelay", "gradedSpike", "wgtExp", *_TRAINING}
_FIELDS: Mapping[str, set[str]] = {
    "input": {"shape", "weight", "bias"},
    "flatten": {"shape"},
    "dense": {"shape", "weight", "bias", "delay", "inFeatures", "outFeatures"},
    "conv": {
        *("shape", "weight", "bias", "delay", "inChannels", "outChannels", "kernelSize"),
        *("stride", "padding", "dilation", "groups"),
    },
}
_ELSEWHERE = {
    "dense_rec": "recurrent synapses have no place in a program of layers in order",
    "dense_comp": "complex weights feed resonators, which the integer form does not have",
    "pool": "lava-dl's own netx does not implement it",
    "unpool": "lava-dl's own netx does not implement it",
    "convT": "lava-dl's own netx does not implement it",
    "average": "lava-dl's own netx does not implement it",
    "concat": "lava-dl's own netx does not implement it",
}


@dataclass(frozen=True, kw_only=True)
class Neuron:
    """A LIF of Lava, in its own numbers: v > vth * 64 spikes and resets to zero."""

    vth: int
    decay: int  # of the membrane: 0 to 4095
    current_decay: int  # 0 to 4096


@dataclass(frozen=True, kw_only=True)
class InputLayer:
    """The image, or the input spikes; with a neuron, the image is its bias."""

    place: str
    shape: Shape
    weight: int  # bias mantissa = weight * x + bias, for an x as in training
    bias: int
    neuron: Neuron | None


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvLayer:
    """A convolution; its kernel holds the zeros of its dilation."""

    place: str
    shape: Shape
    weight: IntArray  # (out, in / groups, kh, kw)
    bias: IntArray  # (out,)
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int
    neuron: Neuron


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseLayer:
    """A matrix, its weights as lava-dl delivers them."""

    place: str
    weight: IntArray  # (out, in)
    delay: IntArray  # (out, in)
    bias: IntArray  # (out,)
    neuron: Neuron | None  # None: it sums its input and never spikes


@dataclass(frozen=True, kw_only=True)
class FlattenLayer:
    """The next layer reads the maps as one vector, in (C, H, W) order."""

    place: str


NetxLayer = InputLayer | ConvLayer | DenseLayer | FlattenLayer


def layer_of(record: Record, issues: list[Issue]) -> NetxLayer | None:
    """Return the layer that a record describes, or add to `issues` all that is wrong with it."""
    if record.kind not in _FIELDS:
        reason = _ELSEWHERE.get(record.kind, nearest(record.kind, _FIELDS))
        remedy = "replace it by conv, dense or flatten, or import the layers before it"
        issues.append(Issue(record.place, f"type {record.kind!r}: {reason}", remedy, "layer-type"))
        return None
    fields = Fields(record.place, record.fields, issues)
    before = len(issues)
    fields.only(_FIELDS[record.kind])
    neuron = None if record.neuron is None else neuron_of(record.place, record.neuron, issues)
    match record.kind:
        case "input":
            layer: NetxLayer | None = _input(record.place, fields, neuron)
        case "flatten":
            layer = FlattenLayer(place=record.place)
        case "dense":
            layer = _dense(record.place, fields, neuron)
        case _:
            layer = _conv(record.place, fields, neuron, has_neuron=record.neuron is not None)
    return layer if len(issues) == before else None


def neuron_of(place: str, values: Mapping[str, Value], issues: list[Issue]) -> Neuron | None:
    """Return a neuron, or None with what is wrong with it among the issues."""
    fields = Fields(place, values, issues)
    kind = values.get("type")
    if not isinstance(kind, str) or kind not in ("CUBA", "LOIHI"):
        named = f"type {kind!r}" if isinstance(kind, str) else "no type"
        fields.wrong(
            f"has a neuron of {named}; sigma-delta, resonant and adaptive ones have no place here",
            "train with CUBA or LOIHI neurons",
            "neuron-type",
        )
        return None
    fields.only(_NEURON)
    for name, same in (("refDelay", 1), ("gradedSpike", 0), ("wgtExp", 0)):
        if name in values and fields.integer(name, -HUGE, HUGE) != same:
            fields.wrong(
                f"has {name} {fields.integer(name, -HUGE, HUGE)}, which lava-dl's netx ignores "
                "and training does not",
                f"train with {name} {same}",
                name,
            )
    return Neuron(
        vth=fields.integer("vThMant", 0, VTH_MAX),
        decay=fields.integer("vDecay", 0, 4095),
        current_decay=fields.integer("iDecay", 0, FORGET),
    )


def _input(place: str, fields: Fields, neuron: Neuron | None) -> InputLayer:
    return InputLayer(
        place=place,
        shape=fields.shape((1, 3)),
        weight=fields.integer("weight", BIAS_MIN, BIAS_MAX, 64),
        bias=fields.integer("bias", BIAS_MIN, BIAS_MAX, 0),
        neuron=neuron,
    )


def _dense(place: str, fields: Fields, neuron: Neuron | None) -> DenseLayer | None:
    shape = fields.array("shape").reshape(-1).tolist()
    size, wrong = prod(shape), len(fields.issues)
    weight = fields.array("weight")
    readable = len(fields.issues) == wrong
    if weight.ndim == 1 and size > 0 and weight.size % size == 0:
        weight = weight.reshape(size, -1)
    if weight.ndim != 2 or weight.shape[0] != size:
        if readable:
            fields.wrong(f"weight {weight.shape} does not fit its shape {shape}", AGAIN, "shape")
        return None
    fields.agrees("outFeatures", weight.shape[0])
    fields.agrees("inFeatures", weight.shape[1])
    bias = _bias(fields, weight.shape[0])
    delay = _delay(fields, (weight.shape[0], weight.shape[1]))
    if not readable:
        return None
    try:
        values = delivered(weight)
    except Broken as broken:
        fields.wrong(*broken.args)
        return None
    return DenseLayer(place=place, weight=values, delay=delay, bias=bias, neuron=neuron)


def _conv(
    place: str, fields: Fields, neuron: Neuron | None, *, has_neuron: bool
) -> ConvLayer | None:
    if not has_neuron:
        fields.wrong("has no neuron, lava-dl cannot load that", AGAIN, "missing-field")
    shape = fields.shape((3,))
    wrong = len(fields.issues)
    weight = fields.array("weight")
    readable = len(fields.issues) == wrong
    stride, padding = fields.pair("stride", 1), fields.pair("padding", 0)
    dilation = fields.pair("dilation", 1)
    groups = fields.integer("groups", 1, BYTE)
    if "delay" in fields.values and fields.array("delay").any():
        fields.wrong(
            "has delays, which lava-dl's netx ignores in a convolution",
            "train it without delays",
            "conv-delay",
        )
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]
    if weight.ndim != 4 or weight.shape[0] != shape[0] or max(weight.shape[2:]) > BYTE:
        if readable:
            fields.wrong(f"weight {weight.shape} does not fit its shape {shape}", AGAIN, "shape")
        return None
    if prod(weight.shape) * prod(dilation) > NEURONS:
        problem = f"its kernel {weight.shape} with dilation {dilation} has too many zeros to hold"
        fields.wrong(problem, "use a smaller dilation", "range")
        return None
    fields.agrees("outChannels", weight.shape[0])
    fields.agrees("inChannels", weight.shape[1] * groups)
    fields.agrees("kernelSize", weight.shape[2:])
    bias = _bias(fields, weight.shape[0])
    if neuron is None:
        return None
    return ConvLayer(
        place=place,
        shape=shape,
        weight=integers(_dilated(weight, dilation)),
        bias=bias,
        stride=stride,
        padding=padding,
        groups=groups,
        neuron=neuron,
    )


def _dilated(weight: Whole, dilation: tuple[int, int]) -> Whole:
    """Return the kernel with the zeros that dilation puts between its rows and columns."""
    rows, columns = ((n - 1) * d + 1 for n, d in zip(weight.shape[2:], dilation, strict=True))
    spread = np.zeros((*weight.shape[:2], rows, columns), dtype=np.int64)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def _bias(fields: Fields, size: int) -> IntArray:
    """Return the bias of each channel or neuron: (size,)."""
    value = fields.array("bias", 0)
    if "bias" not in fields.values:
        return integers(np.zeros(size))
    if value.shape != (size,):
        fields.wrong(
            f"bias has shape {value.shape}, {size} values are read",
            "give one for each channel of a map, or each neuron of a vector",
            "shape",
        )
        return integers(np.zeros(size))
    if value.min() < BIAS_MIN or value.max() > BIAS_MAX:
        fields.wrong(
            f"its bias reaches from {value.min()} to {value.max()}, which lava-nc's 16 bits wrap",
            "use smaller values",
            "bias-range",
        )
        return integers(np.zeros(size))
    return integers(value)


def _delay(fields: Fields, shape: tuple[int, int]) -> IntArray:
    """Return the delay of each synapse: (out, in)."""
    value = fields.array("delay", 0)
    if not (value.min() >= 0 and value.max() <= DELAY_MAX):
        fields.wrong(
            f"its delays reach from {value.min()} to {value.max()}, lava-dl clips them to "
            f"0 and {DELAY_MAX}",
            "use shorter delays",
            "delay-range",
        )
        value = np.zeros((), dtype=np.int64)
    if value.ndim == 1:
        if len(value) == shape[0]:  # lava-dl asks in this order
            value = value[:, None]
        elif len(value) != shape[1]:
            fields.wrong(
                f"{len(value)} delays for {shape[0]} outputs and {shape[1]} inputs",
                "give one for each output, input or synapse",
                "shape",
            )
            value = np.zeros((), dtype=np.int64)
    elif value.ndim and value.shape != shape:
        fields.wrong(f"delay {value.shape} does not fit weight {shape}", AGAIN, "shape")
        value = np.zeros((), dtype=np.int64)
    return integers(np.broadcast_to(value, shape))
