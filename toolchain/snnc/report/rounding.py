"""What quantization did: every weight and threshold before and after, in the same unit."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from snnc.errors import InvalidFile
from snnc.ir.graph import Conv2d, Fire, Graph, Linear, Reset
from snnc.ir.program import INPUT, Layer, Program, Synapses
from snnc.ir.weights import FloatArray, IntArray, unpack
from snnc.passes.image import absorb, image_coding
from snnc.passes.rewrite import drive
from snnc.passes.scale import units
from snnc.semantics.neuron import ALIGN


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounded:
    """The non-zero weights of one bundle, before and after, in the same order and unit."""

    name: str
    before: FloatArray  # (kept,) float weights of the prepared graph
    after: IntArray  # (kept,)
    scale: float  # after / scale is comparable with before
    unit: int  # power of two of which the integers are multiples

    @property
    def largest_error(self) -> float:
        """The largest rounding error, in steps of the integers."""
        return float(np.abs(self.after - self.before * self.scale).max(initial=0.0)) / self.unit

    @property
    def vanished(self) -> int:
        """How many weights were rounded to zero."""
        return int(np.count_nonzero(self.after == 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Thresholds:
    """The thresholds of one layer on their way to one integer."""

    name: str
    trained: FloatArray  # (n,) as training left them
    prepared: float  # the one threshold after PREPARE
    integer: int  # in units of the membrane
    level: float  # the membrane at which a neuron fires, in units of the prepared graph

    @property
    def error(self) -> float:
        """The relative error of the level that rounding caused."""
        return self.level / self.prepared - 1


def rounded_weights(prepared: Graph, program: Program, path: Path) -> list[Rounded]:
    """Pair the weights that were not pruned with their integers, bundle by bundle.

    Raises:
        InvalidFile: the graph and the program hold different layers.
    """
    found = []
    for population in program.populations:
        for synapses, unit in zip(population.synapses, units(population), strict=True):
            before = _before(prepared, synapses, program.input.levels, path)
            after = unpack(synapses.weight)
            if before.shape != after.shape:
                raise _other_run(path, synapses.name)
            kept = before != 0
            found.append(
                Rounded(
                    name=synapses.name,
                    before=before[kept],
                    after=after[kept],
                    scale=population.scale,
                    unit=unit,
                )
            )
    return found


def _before(prepared: Graph, synapses: Synapses, levels: int, path: Path) -> FloatArray:
    """Return the float weights that were rounded, those of the image for steps of grey."""
    for node in prepared.nodes:
        if node.name == synapses.name and isinstance(node.op, Conv2d | Linear):
            if synapses.source == INPUT:
                return unpack(absorb(node.op, image_coding(prepared, levels))[0])
            return unpack(node.op.weight)
    raise _other_run(path, synapses.name)


def rounded_thresholds(
    graph: Graph, prepared: Graph, program: Program, path: Path
) -> list[Thresholds]:
    """Pair layers, which are named after their first synapses, with the nodes that fire.

    Raises:
        InvalidFile: the graph and the program hold different layers.
    """
    fires = {
        drive(prepared, node)[0][0].name: node.name
        for node in prepared.nodes
        if isinstance(node.op, Fire)
    }
    found = []
    for layer in program.layers:
        if layer.name not in fires:
            raise _other_run(path, layer.name)
        trained, ready = graph[fires[layer.name]].op, prepared[fires[layer.name]].op
        assert isinstance(trained, Fire) and isinstance(ready, Fire)  # noqa: S101 - names survive
        found.append(
            Thresholds(
                name=layer.name,
                trained=trained.threshold.reshape(-1),
                prepared=float(ready.threshold),
                integer=layer.threshold,
                level=_level(layer),
            )
        )
    return found


def _level(layer: Layer) -> float:
    """Return the membrane, in units of the float graph, at which a neuron of a layer fires.

    Without a leak and with a hard reset a membrane is a multiple of 2**ALIGN (see
    `semantics.neuron`), so the next multiple is what it has to reach.
    """
    threshold: float = layer.threshold / 2**ALIGN
    if layer.reset is Reset.ZERO and layer.decay == 0:
        threshold = ceil(threshold)
    return threshold / layer.scale


def _other_run(path: Path, name: str) -> InvalidFile:
    return InvalidFile(
        f"{path}: does not have the layer {name!r} of reference/program.snnx; they are not of "
        "the same run, run the recipe again"
    )
