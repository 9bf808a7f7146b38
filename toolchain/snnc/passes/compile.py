"""From a trained graph to a program, in one call."""

from __future__ import annotations

from snnc.ir.graph import Graph
from snnc.ir.program import Program
from snnc.passes import PREPARE, Observer, apply
from snnc.passes.numbers import Numbers
from snnc.passes.quantize import PIXEL_LEVELS, quantize


def compile_graph(
    graph: Graph,
    numbers: Numbers,
    *,
    levels: int = PIXEL_LEVELS,
    observe: Observer | None = None,
) -> Program:
    """Run PREPARE and quantize; `observe` sees the graph after each pass.

    Raises:
        InvalidGraph: the graph cannot become a program; lists the reasons.
    """
    return quantize(apply(PREPARE, graph, observe), numbers, levels=levels)
