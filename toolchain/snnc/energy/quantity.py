"""What can be counted, what can have a price, and the equations that join the two.

An equation is a list of lines `quantity x price`; the energy of an inference is their sum.
The vocabulary is closed: a profile prices the terms of its equation, all of them, and none
besides, so that nothing is forgotten or counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Quantity(Enum):
    """Something a run does a number of times."""

    SYNAPTIC_CONV = "synaptic_conv"  # additions, by how the synapse is stored
    SYNAPTIC_DENSE = "synaptic_dense"
    SYNAPTIC_SPARSE = "synaptic_sparse"
    INPUT_MACS = "input_macs"  # multiply-accumulates on the image, one pass
    NEURON_ACTIVE = "neuron_active"  # membrane updates with an event or a bias
    NEURON_INACTIVE = "neuron_inactive"
    SPIKES = "spikes"
    HOPS_EW = "hops_ew"  # between tiles, along a row of the mesh
    HOPS_NS = "hops_ns"  # along a column
    STEPS = "steps"
    CHIP_SECONDS = "chip_seconds"


class Term(Enum):
    """Something that has a price; the names are the keys of a profile."""

    ADDITION = "e_ac"
    MAC = "e_mac"
    SYNAPTIC = "e_synop"  # of any encoding that has no price of its own
    SYNAPTIC_CONV = "e_synop_conv"
    SYNAPTIC_DENSE = "e_synop_dense"
    SYNAPTIC_SPARSE = "e_synop_sparse"
    NEURON = "e_neuron"  # an update, active or not
    NEURON_ACTIVE = "e_neuron_active"
    NEURON_INACTIVE = "e_neuron_inactive"
    SPIKE = "e_spike_intratile"  # each spike leaves its core once, at least
    HOP_EW = "e_hop_ew"
    HOP_NS = "e_hop_ns"
    BARRIER = "e_barrier"  # the end of one time step
    STATIC = "p_static_chip"


class Part(Enum):
    """The rows of a breakdown."""

    SYNAPTIC = "synaptic"
    INPUT = "input encoding"
    NEURON = "neuron"
    ROUTING = "routing"
    SYNCHRONISATION = "synchronisation"
    STATIC = "static"


class Equations(Enum):
    """Which model a profile's prices belong to."""

    ARITHMETIC = "arithmetic"  # additions and multiply-accumulates, nothing else
    PROXY = "proxy"  # synaptic and neuron operations, weighted
    EVENT = "event"  # the terms of an event-driven chip, each with its own price
    ALL_IN = "all_in"  # one price per event that contains all the rest


class Scope(Enum):
    """How much of a system the prices cover. Different scopes are never compared."""

    ARITHMETIC_ONLY = "arithmetic_only"
    PER_TERM = "per_term"
    ALL_IN = "all_in"


SCOPE: Mapping[Equations, Scope] = {
    Equations.ARITHMETIC: Scope.ARITHMETIC_ONLY,
    Equations.PROXY: Scope.ARITHMETIC_ONLY,
    Equations.EVENT: Scope.PER_TERM,
    Equations.ALL_IN: Scope.ALL_IN,
}


@dataclass(frozen=True)
class Line:
    """One product of the sum: a quantity times the first of `terms` that has an entry."""

    quantity: Quantity
    terms: tuple[Term, ...]
    part: Part


def _synaptic(*terms: Term) -> tuple[Line, ...]:
    """Price additions of every encoding alike."""
    stored = (Quantity.SYNAPTIC_CONV, Quantity.SYNAPTIC_DENSE, Quantity.SYNAPTIC_SPARSE)
    return tuple(Line(quantity, terms, Part.SYNAPTIC) for quantity in stored)


LINES: Mapping[Equations, tuple[Line, ...]] = {
    Equations.ARITHMETIC: (
        *_synaptic(Term.ADDITION),
        Line(Quantity.INPUT_MACS, (Term.MAC,), Part.INPUT),
    ),
    Equations.PROXY: (
        *_synaptic(Term.SYNAPTIC),
        Line(Quantity.INPUT_MACS, (Term.MAC,), Part.INPUT),
        Line(Quantity.NEURON_ACTIVE, (Term.NEURON,), Part.NEURON),
        Line(Quantity.NEURON_INACTIVE, (Term.NEURON,), Part.NEURON),
    ),
    Equations.EVENT: (
        Line(Quantity.SYNAPTIC_CONV, (Term.SYNAPTIC_CONV, Term.SYNAPTIC), Part.SYNAPTIC),
        Line(Quantity.SYNAPTIC_DENSE, (Term.SYNAPTIC_DENSE, Term.SYNAPTIC), Part.SYNAPTIC),
        Line(Quantity.SYNAPTIC_SPARSE, (Term.SYNAPTIC_SPARSE, Term.SYNAPTIC), Part.SYNAPTIC),
        Line(Quantity.INPUT_MACS, (Term.MAC,), Part.INPUT),
        Line(Quantity.NEURON_ACTIVE, (Term.NEURON_ACTIVE,), Part.NEURON),
        Line(Quantity.NEURON_INACTIVE, (Term.NEURON_INACTIVE,), Part.NEURON),
        Line(Quantity.SPIKES, (Term.SPIKE,), Part.ROUTING),
        Line(Quantity.HOPS_EW, (Term.HOP_EW,), Part.ROUTING),
        Line(Quantity.HOPS_NS, (Term.HOP_NS,), Part.ROUTING),
        Line(Quantity.STEPS, (Term.BARRIER,), Part.SYNCHRONISATION),
        Line(Quantity.CHIP_SECONDS, (Term.STATIC,), Part.STATIC),
    ),
    Equations.ALL_IN: (
        *_synaptic(Term.SYNAPTIC),
        Line(Quantity.INPUT_MACS, (Term.MAC,), Part.INPUT),
    ),
}


def priced_terms(equations: Equations) -> tuple[Term, ...]:
    """Return every term that may have a price under these equations, once each."""
    return tuple(dict.fromkeys(term for line in LINES[equations] for term in line.terms))
