"""What quantization did to each layer, for reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.ir.graph import Conv2d, Graph, Linear
from snnc.ir.program import INPUT, Accumulator, Layer, Program
from snnc.ir.weights import FloatArray, nonzeros, unpack
from snnc.passes.image import ImageCoding, absorb, image_coding
from snnc.passes.scale import units


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounding:
    """One bundle of synapses before and after quantization, in the same units."""

    population: str
    name: str
    before: FloatArray  # non-zero weights, in units of the layer's threshold
    after: FloatArray  # the integers they became, divided by the scale
    scale: float
    unit: int  # power of two of which the integers are multiples
    weight_bits: int  # signed bits that the largest multiple needs
    largest_weight: int
    saturated: int  # integers smaller than the weight rounds to
    rounded_to_zero: int
    threshold: int | None  # in membrane units; None for an accumulator

    @property
    def error(self) -> float:
        """The root mean square of the rounding error over that of the weights."""
        power = float(np.mean(self.before**2)) if self.before.size else 0.0
        if power == 0.0:
            return 0.0
        return float(np.sqrt(np.mean((self.after - self.before) ** 2) / power))


def roundings(prepared: Graph, program: Program) -> tuple[Rounding, ...]:
    """Compare a prepared graph with the program that `quantize` made of it."""
    coding = image_coding(prepared, program.input.levels)
    return tuple(
        _rounding(prepared, coding, population, i)
        for population in program.populations
        for i in range(len(population.synapses))
    )


def _rounding(
    prepared: Graph, coding: ImageCoding, population: Layer | Accumulator, position: int
) -> Rounding:
    bundle = population.synapses[position]
    op = prepared[bundle.name].op
    assert isinstance(op, Conv2d | Linear)  # noqa: S101 - quantize made the bundle from one
    weight = absorb(op, coding)[0] if bundle.source == INPUT else op.weight
    before, after = unpack(weight), unpack(bundle.weight)
    kept = before != 0
    largest = int(np.abs(after).max(initial=0))
    unit = units(population)[position]
    rounded = np.rint(before * (population.scale / unit)) * unit
    return Rounding(
        population=population.name,
        name=bundle.name,
        before=before[kept],
        after=after[kept] / population.scale,
        scale=population.scale,
        unit=unit,
        weight_bits=(largest // unit).bit_length() + 1,
        largest_weight=largest,
        saturated=int((np.abs(after) < np.abs(rounded)).sum()),
        rounded_to_zero=nonzeros(weight) - int(np.count_nonzero(after)),
        threshold=population.threshold if isinstance(population, Layer) else None,
    )
