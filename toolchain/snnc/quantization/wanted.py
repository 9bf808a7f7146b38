"""What the float network does on the calibration images: what its integers should do too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.ir.check import shapes
from snnc.ir.graph import Graph
from snnc.ir.weights import FloatArray
from snnc.passes.populations import FloatPopulation
from snnc.simulate.floating import maps

CHUNK = 1 << 25  # bytes of the largest array of a run, here and in `trial`: no result changes


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """Activity of a prepared graph on images."""

    counts: Mapping[str, npt.NDArray[np.int32]]  # layer -> spikes (samples, *shape)
    drives: Mapping[str, FloatArray]  # population -> mean input of each channel, bias included
    logits: FloatArray  # (samples, classes), mean over the steps


def wanted(
    graph: Graph, populations: Sequence[FloatPopulation], images: npt.NDArray[np.floating]
) -> Wanted:
    """Run the float network on images (samples, *shape)."""
    parts = [_part(graph, populations, images[i]) for i in chunks(graph, len(images))]
    weights = np.array([len(part.logits) for part in parts]) / len(images)
    return Wanted(
        counts={
            name: np.concatenate([part.counts[name] for part in parts]) for name in parts[0].counts
        },
        drives={
            name: np.asarray(
                sum(w * part.drives[name] for w, part in zip(weights, parts, strict=True))
            )
            for name in parts[0].drives
        },
        logits=np.concatenate([part.logits for part in parts]),
    )


def chunks(graph: Graph, samples: int) -> list[slice]:
    """Return the parts of the samples that are run at once."""
    largest = max(prod(shape) for shape in shapes(graph).values())
    size = max(1, CHUNK // (largest * graph.steps * 8))
    return [slice(first, first + size) for first in range(0, samples, size)]


def _part(
    graph: Graph, populations: Sequence[FloatPopulation], images: npt.NDArray[np.floating]
) -> Wanted:
    found = maps(graph, images)
    return Wanted(
        counts={
            each.name: found[each.node].sum(axis=1).astype(np.int32)
            for each in populations
            if each.fire is not None
        },
        drives={each.name: _drive(found[graph[each.node].inputs[0]], each) for each in populations},
        logits=found[graph.nodes[-1].name].reshape(len(images), -1),
    )


def _drive(values: FloatArray, population: FloatPopulation) -> FloatArray:
    """Return the mean of each output of the synapses, over samples, steps and positions."""
    rows = values.reshape(-1, population.shape[0], prod(population.shape[1:]))
    return np.asarray(rows.mean(axis=(0, 2)))
