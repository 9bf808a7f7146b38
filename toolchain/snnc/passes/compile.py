"""From a trained graph to a program, in one call."""

from __future__ import annotations

from collections.abc import Mapping

from snnc.ir.graph import Graph
from snnc.ir.program import Program
from snnc.passes import PREPARE, Observer, apply
from snnc.passes.numbers import Bits, Numbers
from snnc.passes.quantize import NOTHING, PIXEL_LEVELS, quantize
from snnc.passes.scale import Exponents


def compile_graph(
    graph: Graph,
    numbers: Numbers,
    *,
    levels: int = PIXEL_LEVELS,
    bits: Bits | None = None,
    scales: Mapping[str, float] = NOTHING,
    exponents: Exponents | None = None,
    observe: Observer | None = None,
) -> Program:
    """Run PREPARE and quantize; `observe` sees the graph after each pass.

    Raises:
        InvalidGraph: the graph cannot become a program; lists the reasons.
        InvalidSetting, UnknownName: see `quantize`.
    """
    prepared = apply(PREPARE, graph, observe)
    return quantize(prepared, numbers, levels=levels, bits=bits, scales=scales, exponents=exponents)
