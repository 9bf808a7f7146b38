"""Populations of a program from what a netx file and its notes say."""

from __future__ import annotations

import numpy as np

from snnc.errors import InvalidFile, unreachable
from snnc.frontend.netx.layers import NetxLayer, Neuron
from snnc.frontend.netx.notes import BundleNotes, Notes, PopulationNotes, Storage
from snnc.ir.graph import Reset
from snnc.ir.program import Convolution, FullyConnected, Layer, Synapses
from snnc.ir.weights import Dense, IntArray, IntWeight, Shape, integers, pack, sparse
from snnc.semantics.neuron import ALIGN

SCALE = 64.0  # slayer's weight 1.0 is 64 in the file (lava-dl `slayer/neuron/base.py`, w_scale)
SUMMING = Neuron(vth=1 << 17, decay=0, current_decay=0)  # stands for no neuron until the end


def noted_names(
    layer: NetxLayer, index: int, notes: Notes | None, delays: tuple[int, ...]
) -> PopulationNotes:
    """Return the names of a layer and its bundles: those noted, or new ones."""
    if notes is None:
        name = type(layer).__name__.removesuffix("Layer").lower() + layer.place.split("/")[1]
        bundles = tuple(
            BundleNotes(
                name=f"{name}.delay{delay}" if delay else name, delay=delay, storage=Storage.SMALLER
            )
            for delay in delays
        )
        return PopulationNotes(name=name, scale=SCALE, bundles=bundles)
    if index < len(notes.populations):
        noted = notes.populations[index]
        if noted.bundles and set(delays) <= {bundle.delay for bundle in noted.bundles}:
            return noted
    raise InvalidFile(
        f"the notes that snnc left in the file do not fit {layer.place}; export it again"
    )


def bundles_of(
    source: str,
    noted: PopulationNotes,
    weight: IntArray,
    delay: IntArray,
    kind: Convolution | FullyConnected,
) -> tuple[Synapses, ...]:
    """Return one bundle of synapses for each delay."""
    return tuple(
        Synapses(
            name=bundle.name,
            source=source,
            weight=stored_as(np.where(delay == bundle.delay, weight, 0), bundle.storage),
            kind=kind,
            delay=bundle.delay,
        )
        for bundle in noted.bundles
    )


def stored_as(weight: IntArray, storage: Storage) -> IntWeight:
    """Return a weight, held as its notes say."""
    match storage:
        case Storage.DENSE:
            return Dense(integers(weight))
        case Storage.SPARSE:
            return sparse(integers(weight))
        case Storage.SMALLER:
            return pack(integers(weight))
        case _:
            unreachable(storage)


def population(
    noted: PopulationNotes,
    shape: Shape,
    bundles: tuple[Synapses, ...],
    bias: IntArray,
    neuron: Neuron,
) -> Layer:
    """Return a layer of one of Lava's neurons."""
    return Layer(
        name=noted.name,
        shape=shape,
        synapses=bundles,
        bias=bias,
        threshold=(neuron.vth << ALIGN) + 1,
        decay=neuron.decay,
        reset=Reset.ZERO,
        scale=noted.scale,
        current_decay=neuron.current_decay,
    )
