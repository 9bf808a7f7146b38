"""Where lava-dl would leave 24 bits, and thereby the program.

lava-nc's current wraps around beyond 24 bits (`proc/lif/models.py`); a program's is exact. Both
agree as long as no current can get there: bounded here by the worst input of every neuron.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from snnc.errors import Issue
from snnc.ir.program import INPUT, Accumulator, Layer, Program
from snnc.ir.weights import IntWeight, convert, row_magnitudes
from snnc.semantics.neuron import ALIGN, CURRENT_MAX, V_MAX, leak

Sums = npt.NDArray[np.int64]


def current_issues(program: Program) -> Iterator[Issue]:
    """Yield an issue for each population whose current or sum could leave 24 bits."""
    for population in program.populations:
        if isinstance(population, Accumulator):
            need, limit = largest_sum(program, population), CURRENT_MAX
            what = f"its sum can reach {need} in {program.steps} steps"
        else:
            need, limit = largest_current(program, population), V_MAX
            what = f"its current can reach {need}"
        if need > limit:
            yield Issue(
                population.name,
                f"{what}, lava-dl's 24 bits hold {limit}",
                "use fewer steps, smaller weights or fewer inputs",
                "current-range",
                need=need,
                limit=limit,
            )


def largest_current(program: Program, layer: Layer) -> int:
    """Return a bound of |u| within the steps of a sample, or the first beyond 24 bits.

    In units of the membrane. The worst input arrives at every step; a leak toward zero is
    monotonic.
    """
    low, high = arriving(program, layer)
    worst, u = int(max(-low.min(), high.max())) << ALIGN, 0
    for _ in range(program.steps):
        before, u = u, leak(u, layer.current_decay) + worst
        if u == before or u > V_MAX:  # it stays, or it is too large already
            break
    return u


def largest_sum(program: Program, population: Layer | Accumulator) -> int:
    """Return a bound of |sum over the steps of current and bias|, in units of current."""
    low, high = arriving(program, population)
    once = population.bias.astype(np.int64)
    return int(max(-(low + once).min(), (high + once).max(), 0)) * program.steps


def arriving(program: Program, population: Layer | Accumulator) -> tuple[Sums, Sums]:
    """Return the least and the most that can arrive in one step: two of (channels or neurons,)."""
    low = np.zeros(population.shape[0], dtype=np.int64)
    high = np.zeros(population.shape[0], dtype=np.int64)
    for bundle in population.synapses:
        least, most = 0, 1
        if bundle.source == INPUT:
            least = min(0, -int(program.input.zero_point.max()))
            most = max(0, program.input.levels - int(program.input.zero_point.min()))
        positive, negative = _row_sums(bundle.weight)
        low += positive * least + negative * most
        high += positive * most + negative * least
    return low, high


def _row_sums(weight: IntWeight) -> tuple[Sums, Sums]:
    """Return the sums of the positive and of the negative weights of each output."""
    signs = (lambda values: np.maximum(values, 0)), (lambda values: np.minimum(values, 0))
    positive, negative = (
        row_magnitudes(convert(weight, of_sign, np.int32)).astype(np.int64) for of_sign in signs
    )
    return positive, -negative
