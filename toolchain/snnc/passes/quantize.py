"""The one door from floats to integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from snnc.errors import InvalidGraph, InvalidSetting, Issue, unreachable
from snnc.ir.check import shapes
from snnc.ir.check_program import check_program
from snnc.ir.graph import Conv2d, Fire, Graph, Linear, Node, Normalize, Reset, Synaptic
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Program,
    SpikeCount,
    Synapses,
)
from snnc.ir.weights import (
    FloatArray,
    FloatWeight,
    convert,
    drop_zeros,
    floats,
    integers,
    stored,
    unpack,
)
from snnc.passes.image import ImageCoding, absorb, image_coding
from snnc.passes.numbers import Numbers
from snnc.passes.rewrite import drive, through_flatten
from snnc.semantics.neuron import ALIGN, DECAY_BITS

PIXEL_LEVELS = 255  # 8-bit images
LEVELS_MAX = 2**16 - 1  # 16-bit images
ROOM = 8  # thresholds that fit between 0 and the floor of the membrane: inhibition adds up


def quantize(graph: Graph, numbers: Numbers, *, levels: int = PIXEL_LEVELS) -> Program:
    """Round a prepared graph to integers, with one scale for each layer.

    One scale for all weights, the bias and the threshold keeps a layer homogeneous, so the
    only error is rounding: half a unit in each. The scale is the largest that the formats of
    weights, bias, threshold and current allow, and that leaves the membrane room for `ROOM`
    thresholds below zero before it saturates. A zero weight stays zero. The image becomes
    codes with `levels` steps of grey, and its normalisation moves into the weights that read
    it (see `passes.image`).

    Raises:
        InvalidGraph: the graph is an ordinary network, or PREPARE has not run on it.
            Or rounding would silence a layer, because its weights or its threshold become 0.
        InvalidSetting: `levels` is out of range.
    """
    if not 1 <= levels <= LEVELS_MAX:
        raise InvalidSetting(f"levels is {levels}; use 1 to {LEVELS_MAX}, 255 for 8-bit images")
    if not any(isinstance(node.op, Fire) for node in graph.nodes):
        raise InvalidGraph([NOT_SPIKING])
    coding = image_coding(graph, levels)
    found = shapes(graph)
    layers: list[Layer] = []
    names = {graph.nodes[0].name: INPUT}  # of graph nodes -> of what synapses may read
    for node in graph.nodes:
        if isinstance(node.op, Normalize):
            names[node.name] = INPUT
        elif isinstance(node.op, Fire):
            bundles = _bundles(graph, node, names, coding)
            layers.append(_layer(node.op, found[bundles[0].name], bundles, coding, numbers))
            names[node.name] = layers[-1].name
    last = graph.nodes[-1]
    readout: Accumulator | SpikeCount = SpikeCount()
    if not isinstance(through_flatten(graph, last.inputs[0]).op, Fire):
        bundles = _bundles(graph, last, names, coding)
        shape = found[bundles[0].name]
        readout = _accumulator(shape, bundles, coding, numbers, graph.steps)
    return check_program(
        Program(
            input=coding.codes,
            layers=tuple(layers),
            readout=readout,
            steps=graph.steps,
            class_names=graph.class_names,
            provenance=graph.provenance,
        )
    )


NOT_SPIKING = Issue(
    "graph",
    "is an ordinary network without spiking layers",
    "convert it to a spiking network first (see `snnc train`)",
    "not-spiking",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bundle:
    """Float synapses that read spikes or codes, on their way to integers."""

    name: str
    source: str
    op: Synaptic
    weight: FloatWeight
    bias: FloatArray

    @property
    def reach(self) -> FloatArray:
        """The sum of |weight| of each output."""
        return np.asarray(np.abs(unpack(self.weight)).reshape(len(self.bias), -1).sum(axis=1))


def _bundles(
    graph: Graph, node: Node, names: dict[str, str], coding: ImageCoding
) -> Sequence[_Bundle]:
    nodes, blocked = drive(graph, node)
    issues = list(blocked)
    bundles = []
    for synapse in nodes:
        op = synapse.op
        assert isinstance(op, Conv2d | Linear)  # noqa: S101 - what drive returns
        origin = through_flatten(graph, synapse.inputs[0])
        if origin.name not in names:
            issues.append(
                Issue(
                    synapse.name,
                    f"reads {origin.name}, which does not spike",
                    "put a spiking layer (a ReLU before conversion) between two linear layers",
                    "order",
                )
            )
            continue
        source = names[origin.name]
        weight, bias = absorb(op, coding) if source == INPUT else (op.weight, op.bias)
        bundles.append(_Bundle(name=synapse.name, source=source, op=op, weight=weight, bias=bias))
    found = shapes(graph)
    issues += [
        Issue(
            bundle.name,
            f"yields {found[bundle.name]} where {bundles[0].name} yields {found[bundles[0].name]}",
            "add maps before they are flattened",
            "shape",
        )
        for bundle in bundles
        if found[bundle.name] != found[bundles[0].name]
    ]
    if issues:
        raise InvalidGraph(issues)
    return bundles


def _layer(
    fire: Fire,
    shape: tuple[int, ...],
    bundles: Sequence[_Bundle],
    coding: ImageCoding,
    numbers: Numbers,
) -> Layer:
    if fire.threshold.shape != ():
        problem = Issue(bundles[0].name, "has several thresholds", "run PREPARE first", "order")
        raise InvalidGraph([problem])
    threshold = float(fire.threshold)
    highest = min(numbers.threshold_max, numbers.current_max // ROOM)
    scale = _scale(bundles, highest / threshold, coding, numbers)
    synapses, bias = _round(bundles, scale)
    if threshold * scale < 1.0:
        problem = Issue(
            bundles[0].name,
            f"its threshold is {threshold * scale:.3g} units of its largest weight's format",
            "its weights are too large beside the threshold; retrain with a larger threshold",
            "scale-too-small",
        )
        raise InvalidGraph([problem])
    decay = min(round((1.0 - fire.keep) * (1 << DECAY_BITS)), (1 << DECAY_BITS) - 1)
    return Layer(
        name=bundles[0].name,
        shape=shape,
        synapses=synapses,
        bias=integers(bias),
        threshold=_threshold(threshold * scale, fire.reset, decay),
        decay=decay,
        reset=fire.reset,
        scale=scale,
    )


def _threshold(level: float, reset: Reset, decay: int) -> int:
    """Return the threshold in membrane units for a level in units of current.

    Loihi compares v > 64 vth, so a hard reset uses the form 64 vth + 1. Without a leak v is a
    multiple of 64 and v >= 64 n is the same as v >= 64 (n - 1) + 1; with one, 64 n + 1 is the
    nearest. A soft reset subtracts the threshold, so it keeps all its bits.
    """
    match reset:
        case Reset.ZERO if decay:
            return (round(level) << ALIGN) + 1
        case Reset.ZERO:
            return ((max(round(level), 1) - 1) << ALIGN) + 1
        case Reset.SUBTRACT:
            return max(round(level * (1 << ALIGN)), 1)
        case _:
            unreachable(reset)


def _accumulator(
    shape: tuple[int, ...],
    bundles: Sequence[_Bundle],
    coding: ImageCoding,
    numbers: Numbers,
    steps: int,
) -> Accumulator:
    per_step = min(numbers.current_max, numbers.accumulator_max // steps)
    within = replace(numbers, current_max=per_step)
    scale = _scale(bundles, float(per_step), coding, within)
    synapses, bias = _round(bundles, scale)
    return Accumulator(
        name=bundles[0].name, shape=shape, synapses=synapses, bias=integers(bias), scale=scale
    )


def _scale(
    bundles: Sequence[_Bundle], limit: float, coding: ImageCoding, numbers: Numbers
) -> float:
    """Return the largest scale at which every integer of the layer fits its format."""
    on_host = all(bundle.source == INPUT for bundle in bundles)
    bias_max = numbers.input_bias_max if on_host else numbers.bias_max
    bias = _bias(bundles)
    scale = min(
        limit,
        _headroom(bias_max, bias),
        *(_headroom(numbers.weight_max, stored(bundle.weight)) for bundle in bundles),
        _headroom(numbers.current_max, _reach(bundles, coding) + np.abs(bias)),
    )
    while (excess := _current(bundles, scale, coding) / numbers.current_max) > 1.0:
        scale /= excess * (1.0 + 1e-6)  # rounding made the sum of the parts larger
    return scale


def _reach(bundles: Sequence[_Bundle], coding: ImageCoding) -> FloatArray:
    """Return the largest |current| without bias of each output channel."""
    return np.asarray(
        sum(bundle.reach * (coding.peak if bundle.source == INPUT else 1) for bundle in bundles)
    )


def _current(bundles: Sequence[_Bundle], scale: float, coding: ImageCoding) -> float:
    """Return the largest |current| + |bias| after rounding at this scale."""
    total = np.abs(np.rint(_bias(bundles) * scale))
    for bundle in bundles:
        peak = coding.peak if bundle.source == INPUT else 1
        rounded = np.abs(np.rint(unpack(bundle.weight) * scale))
        total = total + rounded.reshape(len(total), -1).sum(axis=1) * peak
    return float(total.max(initial=0.0))


def _round(bundles: Sequence[_Bundle], scale: float) -> tuple[tuple[Synapses, ...], FloatArray]:
    silenced = [
        Issue(
            bundle.name,
            f"every weight rounds to 0 at {scale:.3g} units for one threshold",
            "one weight, bias or pixel level is too large beside the others; use fewer levels",
            "scale-too-small",
        )
        for bundle in bundles
        if stored(bundle.weight).any() and not np.rint(stored(bundle.weight) * scale).any()
    ]
    if silenced:
        raise InvalidGraph(silenced)
    synapses = tuple(
        Synapses(
            name=bundle.name,
            source=bundle.source,
            weight=drop_zeros(
                convert(bundle.weight, lambda values: np.rint(values * scale), np.int32)
            ),
            kind=_kind(bundle.op),
        )
        for bundle in bundles
    )
    return synapses, floats(np.rint(_bias(bundles) * scale))


def _bias(bundles: Sequence[_Bundle]) -> FloatArray:
    return floats(sum((bundle.bias for bundle in bundles[1:]), start=bundles[0].bias))


def _kind(op: Synaptic) -> Convolution | FullyConnected:
    match op:
        case Conv2d(stride=stride, padding=padding, groups=groups):
            return Convolution(stride=stride, padding=padding, groups=groups)
        case Linear():
            return FullyConnected()
        case _:
            unreachable(op)


def _headroom(limit: int, values: FloatArray) -> float:
    peak = float(np.abs(values).max(initial=0.0))
    return limit / peak if peak > 0 else float("inf")
