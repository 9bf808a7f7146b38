"""The one door from floats to integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from types import MappingProxyType

from snnc.errors import InvalidGraph, InvalidSetting, Issue, UnknownName
from snnc.ir.check_program import check_program
from snnc.ir.graph import Fire, Graph
from snnc.ir.program import Accumulator, Layer, Program, SpikeCount
from snnc.passes.image import ImageCoding, image_coding
from snnc.passes.numbers import Bits, Numbers, checked_bits
from snnc.passes.populations import FloatPopulation, populations
from snnc.passes.scale import (
    Exponents,
    Formats,
    at_scale,
    exponent_max,
    formats,
    largest_scale,
    saturating_scale,
)

PIXEL_LEVELS = 255  # 8-bit images
LEVELS_MAX = 2**16 - 1  # 16-bit images
NOTHING: Mapping[str, float] = MappingProxyType({})


def quantize(
    graph: Graph,
    numbers: Numbers,
    *,
    levels: int = PIXEL_LEVELS,
    bits: Bits | None = None,
    scales: Mapping[str, float] = NOTHING,
    exponents: Exponents | None = None,
) -> Program:
    """Round a prepared graph to integers, with one scale for each layer.

    One scale for all weights, the bias and the threshold keeps a layer homogeneous, so the
    only error is rounding: half a unit in each, half of 2**e in the weights of a bundle that
    are multiples of 2**e (see `passes.scale`). Unless `scales` gives it one, a layer has the
    largest scale that the formats of weights, bias, threshold and current allow, and that
    leaves the membrane room for `ROOM` thresholds below zero before it saturates. At a scale
    that was given, and where `bits` are so few that the largest weight has no integer beside
    the threshold, weights beyond the format saturate. So they do at `exponents` that are given,
    of every bundle, and smaller than their weights need. A zero weight stays zero. The image
    becomes codes with `levels` steps of grey, and its normalisation moves into the weights
    that read it (see `passes.image`).

    Raises:
        InvalidGraph: the graph is an ordinary network, or PREPARE has not run on it.
            Or rounding would silence a layer, because its weights or its threshold become 0,
            or at a given scale a bias, a threshold or a current leaves its format.
        InvalidSetting: `levels`, `bits`, a scale or an exponent is out of range.
        UnknownName: `bits` or `scales` names a layer that is not there.
    """
    coding = coding_of(graph, levels)
    return assemble(
        graph,
        coding,
        integer_populations(
            populations(graph, coding),
            numbers,
            steps=graph.steps,
            bits=bits,
            scales=scales,
            exponents=exponents,
        ),
    )


def coding_of(graph: Graph, levels: int) -> ImageCoding:
    """Return how the images of a spiking graph become codes.

    Raises:
        InvalidGraph: it is an ordinary network, or normalises anything but the image.
        InvalidSetting: `levels` is out of range.
    """
    if not 1 <= levels <= LEVELS_MAX:
        raise InvalidSetting(f"levels is {levels}; use 1 to {LEVELS_MAX}, 255 for 8-bit images")
    if not any(isinstance(node.op, Fire) for node in graph.nodes):
        raise InvalidGraph([NOT_SPIKING])
    return image_coding(graph, levels)


NOT_SPIKING = Issue(
    "graph",
    "is an ordinary network without spiking layers",
    "convert it to a spiking network first (see `snnc train`)",
    "not-spiking",
)


def integer_populations(
    found: Sequence[FloatPopulation],
    numbers: Numbers,
    *,
    steps: int,
    bits: Bits | None,
    scales: Mapping[str, float],
    exponents: Exponents | None,
) -> tuple[Layer | Accumulator, ...]:
    """Return the integers of all populations, each at its scale, see `quantize`."""
    names = [population.name for population in found]
    if bits is not None:
        checked_bits(bits, numbers, names)
    for name, scale in scales.items():
        if name not in names:
            raise UnknownName("layer", name, names)
        if not (isfinite(scale) and scale > 0):
            raise InvalidSetting(f"the scale of {name} is {scale}; use a number above 0")
    integers = []
    for population in found:
        width = None if bits is None else bits.of(population.name)
        limits = formats(population, numbers, bits=width, steps=steps)
        if exponents is not None:
            _check_exponents(population, limits, exponents)
        if population.name in scales:
            scale = scales[population.name]
        elif bits is None:
            scale = largest_scale(population, limits)
        else:
            scale = saturating_scale(population, limits)
        integers.append(at_scale(population, limits, scale, exponents))
    return tuple(integers)


def _check_exponents(population: FloatPopulation, limits: Formats, exponents: Exponents) -> None:
    for bundle in population.bundles:
        given, most = exponents.get(bundle.name), exponent_max(bundle, limits)
        if given is None or not 0 <= given <= most:
            raise InvalidSetting(f"the exponent of {bundle.name} is {given}; use 0 to {most}")


def assemble(graph: Graph, coding: ImageCoding, integers: Sequence[Layer | Accumulator]) -> Program:
    """Return the program of a prepared graph whose populations have become integers."""
    layers = tuple(each for each in integers if isinstance(each, Layer))
    readout = next((each for each in integers if isinstance(each, Accumulator)), SpikeCount())
    return check_program(
        Program(
            input=coding.codes,
            layers=layers,
            readout=readout,
            steps=graph.steps,
            class_names=graph.class_names,
            provenance=graph.provenance,
        )
    )
