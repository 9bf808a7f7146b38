"""How large the integers of a program can get, and which float holds all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from snnc.errors import InvalidProgram, Issue
from snnc.ir.program import FORGET, INPUT, Accumulator, Layer, Program
from snnc.ir.weights import row_magnitudes, stored
from snnc.semantics.neuron import ALIGN

EXACT = {torch.float32: 2**24, torch.float64: 2**53}  # integers up to here are exact
OPERAND_MAX = 2**8  # up to here, times powers of two, exact in bfloat16, the coarsest input


def reach(program: Program, population: Layer | Accumulator) -> int:
    """Return a bound of the sum of magnitudes that the drive of any neuron adds up.

    That is |bias| plus all |weight * source|, in units of current: of one step of a layer, of
    all steps of an accumulator. Where a current lasts, all that is left of it is added, in
    units of the membrane.
    """
    bias = int(np.abs(population.bias.astype(np.int64)).max(initial=0))
    arriving = 0
    for bundle in population.synapses:
        peak = program.input.peak if bundle.source == INPUT else 1
        arriving += int(row_magnitudes(bundle.weight).max(initial=0.0)) * peak
    match population:
        case Accumulator():
            return (bias + arriving) * program.steps
        case Layer(current_decay=decay) if decay < FORGET:
            lasting = min(program.steps, -(-FORGET // decay)) if decay else program.steps
            return (bias + arriving * lasting) << ALIGN
        case _:
            return bias + arriving


def precision(program: Program) -> torch.dtype:
    """Return the narrowest float that runs the program exactly, see `snnc.twin`.

    Raises:
        InvalidProgram: float64 does not.
    """
    reaches = {population.name: reach(program, population) for population in program.populations}
    issues = [
        Issue(
            name,
            f"its currents may reach {reached}, past the exact integers of float64",
            "quantize to smaller weights",
            "overflow",
        )
        for name, reached in reaches.items()
        if reached >= EXACT[torch.float64]
    ]
    if issues:
        raise InvalidProgram(issues)
    operands = [program.input.peak] + [
        _significand(stored(bundle.weight).astype(np.int64))
        for population in program.populations
        for bundle in population.synapses
    ]
    thresholds = [layer.threshold for layer in program.layers]
    narrow = max([*reaches.values(), *thresholds]) < EXACT[torch.float32]
    return torch.float32 if narrow and max(operands) <= OPERAND_MAX else torch.float64


def _significand(values: npt.NDArray[np.int64]) -> int:
    """Return the largest magnitude, of each value without its factors of two."""
    sizes = np.abs(values[values != 0])
    return int((sizes // (sizes & -sizes)).max(initial=0))
