"""From the layers of a netx file to a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from snnc.errors import InvalidFile, Issue, unreachable
from snnc.frontend.netx.entry import Coding, entry
from snnc.frontend.netx.layers import ConvLayer, DenseLayer, FlattenLayer, InputLayer, NetxLayer
from snnc.frontend.netx.limits import largest_sum
from snnc.frontend.netx.notes import Notes, PopulationNotes, Readout
from snnc.frontend.netx.populations import SCALE, SUMMING, bundles_of, noted_names, population
from snnc.ir.program import (
    FORGET,
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    SpikeCount,
)
from snnc.ir.rules import Broken, convolved_shape
from snnc.ir.weights import (
    Dense,
    Shape,
)
from snnc.semantics.neuron import ALIGN, CURRENT_MAX


@dataclass(frozen=True, kw_only=True, eq=False)
class _Built:
    """The network up to one of its layers."""

    image: ImageInput
    populations: tuple[Layer, ...]
    last: NetxLayer
    maps: bool  # whether the newest source is maps to netx, not a vector
    flatten: bool  # whether a flatten layer came since

    @property
    def source(self) -> str:
        """The name of what the next layer reads."""
        return self.populations[-1].name if self.populations else INPUT

    @property
    def shape(self) -> Shape:
        """The shape of what the next layer reads."""
        return self.populations[-1].shape if self.populations else self.image.shape


def program_of(
    layers: Sequence[NetxLayer], coding: Coding, notes: Notes | None, issues: list[Issue]
) -> Program | None:
    """Return the program of the layers, or None and add the reasons to `issues`.

    Raises:
        InvalidFile: the notes are those of another network.
    """
    first = layers[0]
    if not isinstance(first, InputLayer):
        problem = "is no input layer, so the shape of the image is unknown"
        issues.append(_order(first, problem, "export the network with its input layer"))
        return None
    image, driven = entry(first, coding, notes, issues)
    built = _Built(
        image=image,
        populations=() if driven is None else (driven,),
        last=first,
        maps=len(first.shape) == 3,
        flatten=False,
    )
    for layer in layers[1:]:
        try:
            built = _extended(built, layer, notes)
        except Broken as broken:
            issues.append(Issue(layer.place, *broken.args))
            built = _assumed(built, layer)
    if not built.populations:
        issues.append(_order(first, "is followed by nothing", "export the whole network"))
    if issues:
        return None
    if notes is not None and len(notes.populations) != len(built.populations):
        raise InvalidFile(
            f"the notes that snnc left in the file are about {len(notes.populations)} layers, it "
            f"has {len(built.populations)}; export it again"
        )
    return _finished(built, coding, notes, issues)


def _order(layer: NetxLayer, problem: str, remedy: str) -> Issue:
    return Issue(layer.place, problem, remedy, "layer-order")


def _extended(built: _Built, layer: NetxLayer, notes: Notes | None) -> _Built:
    """Return the network with one more layer, or raise `Broken` where it does not fit."""
    if isinstance(built.last, DenseLayer) and built.last.neuron is None:
        raise Broken(
            f"comes after {built.last.place}, which has no neuron and so never spikes",
            "give that layer a neuron",
            "layer-order",
        )
    match layer:
        case InputLayer():
            raise Broken("is a second input layer", "keep the first one", "layer-order")
        case FlattenLayer():
            if built.populations and not built.maps:
                raise Broken("flattens a vector, lava-dl fails at that", "remove it", "layer-order")
            return replace(built, flatten=True)
        case ConvLayer():
            return _convolved(built, layer, notes)
        case DenseLayer():
            return _multiplied(built, layer, notes)
        case _:
            unreachable(layer)


def _assumed(built: _Built, layer: NetxLayer) -> _Built:
    """Return the network as if a layer that does not fit did, to find what else is wrong."""
    match layer:
        case InputLayer() | FlattenLayer():
            return built
        case ConvLayer(shape=shape):
            maps = True
        case DenseLayer(weight=weight):
            shape, maps = weight.shape[:1], False
        case _:
            unreachable(layer)
    noted = PopulationNotes(name=layer.place, scale=SCALE, bundles=())
    grown = population(noted, shape, (), layer.bias, layer.neuron or SUMMING)
    populations = (*built.populations, grown)
    return replace(built, populations=populations, last=layer, maps=maps, flatten=False)


def _convolved(built: _Built, layer: ConvLayer, notes: Notes | None) -> _Built:
    if built.flatten or not built.maps:
        raise Broken("convolves a vector", "put it before the flatten layer", "layer-order")
    noted = noted_names(layer, len(built.populations), notes, (0,))
    kind = Convolution(stride=layer.stride, padding=layer.padding, groups=layer.groups)
    shape = convolved_shape(
        Dense(layer.weight), kind.stride, kind.padding, kind.groups, layer.bias.shape, built.shape
    )
    if shape != layer.shape:
        raise Broken(
            f"its shape is {layer.shape}, the convolution of {built.shape} yields {shape}",
            "export the network again",
            "shape",
        )
    delay = np.zeros(layer.weight.shape, dtype=np.int32)
    bundles = bundles_of(built.source, noted, layer.weight, delay, kind)
    grown = population(noted, shape, bundles, layer.bias, layer.neuron)
    return replace(built, populations=(*built.populations, grown), last=layer, maps=True)


def _multiplied(built: _Built, layer: DenseLayer, notes: Notes | None) -> _Built:
    if built.populations and built.maps and not built.flatten:
        raise Broken(
            "reads maps that no flatten layer made a vector, which lava-dl fails at",
            "put a flatten layer before it",
            "layer-order",
        )
    if layer.weight.shape[1] != prod(built.shape):
        raise Broken(
            f"has weights for {layer.weight.shape[1]} inputs, {prod(built.shape)} come in",
            "export the network again",
            "shape",
        )
    if not built.populations and layer.delay.any():
        raise Broken(
            "delays its input, which the image is: that is the same at every step",
            "give the input layer a neuron",
            "input-delay",
        )
    present = tuple(np.unique(layer.delay[layer.weight != 0]).tolist()) or (0,)
    noted = noted_names(layer, len(built.populations), notes, present)
    bundles = bundles_of(built.source, noted, layer.weight, layer.delay, FullyConnected())
    size = layer.weight.shape[:1]
    grown = population(noted, size, bundles, layer.bias, layer.neuron or SUMMING)
    populations = (*built.populations, grown)
    return replace(built, populations=populations, last=layer, maps=False, flatten=False)


def _finished(
    built: _Built, coding: Coding, notes: Notes | None, issues: list[Issue]
) -> Program | None:
    """Return the program, its last layer read by spikes or by membrane."""
    counted = Program(
        input=built.image,
        layers=built.populations,
        readout=SpikeCount(),
        steps=coding.steps,
        class_names=() if notes is None else notes.class_names,
        provenance={} if notes is None else notes.provenance,
    )
    last = built.populations[-1]
    reason = _no_sum(built, counted)
    readout = coding.readout
    if readout is None:
        readout = Readout.SPIKES if reason else Readout.MEMBRANE
    match readout:
        case Readout.SPIKES:
            if isinstance(built.last, DenseLayer) and built.last.neuron is None:
                problem = "has no neuron, so it never spikes"
                if reason:
                    problem += f", and its membrane is no sum: {reason}"
                issues.append(Issue(built.last.place, problem, "read its membrane", "readout"))
            return counted
        case Readout.MEMBRANE:
            if reason:
                remedy = "read its spikes, or train it as an integrator that never spikes"
                issues.append(
                    Issue(built.last.place, f"its membrane is no sum: {reason}", remedy, "readout")
                )
            accumulator = Accumulator(
                name=last.name,
                shape=last.shape,
                synapses=last.synapses,
                bias=last.bias,
                scale=last.scale,
            )
            return replace(counted, layers=built.populations[:-1], readout=accumulator)
        case _:
            unreachable(readout)


def _no_sum(built: _Built, program: Program) -> str:
    """Return why the last membrane is not the sum of all currents and biases; empty if it is."""
    last = built.populations[-1]
    if isinstance(built.last, DenseLayer) and built.last.neuron is None:
        return "its bias is added once, not at every step" if last.bias.any() else ""
    if last.decay or last.current_decay != FORGET:
        return f"vDecay is {last.decay} and iDecay {last.current_decay}, not 0 and {FORGET}"
    limit = min(last.threshold >> ALIGN, CURRENT_MAX)
    if (largest := largest_sum(program, last)) > limit:
        return f"it can reach {largest} in {program.steps} steps, {limit} is its threshold"
    return ""
