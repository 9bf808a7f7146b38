"""The rules of the integer form. A program that passed has no surprises left.

Every broken rule is listed, not only the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from snnc.errors import InvalidProgram, Issue, unreachable
from snnc.ir.program import (
    FORGET,
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.rules import Broken, convolved_shape, multiplied_shape, weight_issues
from snnc.ir.weights import Shape, row_magnitudes

EXACT = 1 << 53  # sums of integers below this are exact in float64, which simulators use
LASTING = 1 << 45  # a current that outlives its step, with 6 bits more, times 2**12: an int64


def check_program(program: Program) -> Program:
    """Return the program if it keeps the rules of the integer form, else raise."""
    issues = list(_program_issues(program))
    if issues:
        raise InvalidProgram(issues)
    return program


def _program_issues(program: Program) -> Iterator[Issue]:
    coding = program.input
    if len(coding.shape) not in (1, 3) or min(coding.shape, default=0) < 1:
        yield Issue(INPUT, f"has shape {coding.shape}", "use (C, H, W) or (neurons,)", "shape")
        return
    if coding.levels < 1 or coding.zero_point.shape != coding.shape[:1]:
        yield Issue(INPUT, "its coding does not fit its shape", "quantize again", "coding")
    if program.steps < 1:
        yield Issue("program", f"steps is {program.steps}", "run at least one step", "steps")
    if not program.layers and not isinstance(program.readout, Accumulator):
        yield Issue("program", "has no layer", "compile a network", "empty")
        return
    peaks = {INPUT: coding.peak}
    known: dict[str, Shape] = {INPUT: coding.shape}
    for population in program.populations:
        if population.name in known:
            yield Issue(population.name, "the name is taken", "rename the layer", "name")
        yield from _population_issues(population, known, peaks, program.steps)
        known[population.name] = population.shape
        peaks[population.name] = 1
    if program.class_names and len(program.class_names) != program.classes:
        yield Issue(
            program.populations[-1].name,
            f"{program.classes} logits for {len(program.class_names)} class names",
            "name every class or none",
            "classes",
        )


def _population_issues(
    population: Layer | Accumulator, known: dict[str, Shape], peaks: dict[str, int], steps: int
) -> Iterator[Issue]:
    name = population.name
    if not population.shape or min(population.shape) < 1 or len(population.shape) not in (1, 3):
        yield Issue(name, f"has shape {population.shape}", "quantize again", "shape")
        return
    if population.bias.shape != population.shape[:1]:
        yield Issue(name, f"bias has shape {population.bias.shape}", "quantize again", "shape")
    if not population.synapses:
        yield Issue(name, "has no synapses", "remove the layer", "empty")
    if isinstance(population, Layer):
        if population.threshold < 1:
            yield Issue(name, f"threshold is {population.threshold}", "use 1 or more", "threshold")
        if not 0 <= population.decay <= 4095:
            yield Issue(name, f"decay is {population.decay}", "use 0 to 4095", "decay")
        if not 0 <= population.current_decay <= FORGET:
            yield Issue(
                name,
                f"current decay is {population.current_decay}",
                f"use 0 to {FORGET}",
                "current-decay",
            )
    if len({bundle.name for bundle in population.synapses}) < len(population.synapses):
        yield Issue(name, "two of its bundles share a name", "rename one", "name")
    total = float(np.abs(population.bias.astype(np.float64)).max(initial=0.0))
    for bundle in population.synapses:
        problems = list(_bundle_issues(bundle, population, known))
        yield from problems
        if not problems:
            rows = row_magnitudes(bundle.weight)
            total += float(rows.max(initial=0.0)) * peaks[bundle.source]
    lasting = isinstance(population, Layer) and population.current_decay < FORGET
    if total * steps >= (LASTING if lasting else EXACT):
        yield Issue(
            name,
            f"currents may sum to {total * steps:g} in {steps} steps",
            "use smaller weights",
            "overflow",
        )


def _bundle_issues(
    bundle: Synapses, population: Layer | Accumulator, known: dict[str, Shape]
) -> Iterator[Issue]:
    if bundle.source not in known:
        yield Issue(
            population.name, f"reads {bundle.source!r}, which is not before it", "fix", "source"
        )
        return
    if bundle.delay < 0 or (bundle.delay and bundle.source == INPUT):
        yield Issue(
            bundle.name,
            f"its delay is {bundle.delay}",
            "use 0 or more, and 0 from the image, which is the same at every step",
            "delay",
        )
    if problems := list(weight_issues(bundle.name, bundle.weight)):
        yield from problems
        return
    try:
        shape = _target_shape(bundle, known[bundle.source])
        if shape != population.shape:
            raise Broken(
                f"{bundle.name} yields {shape}, the layer is {population.shape}",
                "quantize again",
                "shape",
            )
    except Broken as broken:
        yield Issue(population.name, *broken.args)


def _target_shape(bundle: Synapses, source: Shape) -> Shape:
    bias = bundle.weight.shape[:1]
    match bundle.kind:
        case FullyConnected():
            return multiplied_shape(bundle.weight, bias, (prod(source),))
        case Convolution(stride=stride, padding=padding, groups=groups):
            return convolved_shape(bundle.weight, stride, padding, groups, bias, source)
        case _:
            unreachable(bundle.kind)
