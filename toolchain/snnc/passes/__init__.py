"""Rewrites of the graph. A pass is a function; the order is written down once, here."""

from __future__ import annotations

from collections.abc import Callable

from snnc.ir.check import check_graph
from snnc.ir.graph import Graph
from snnc.passes.distribute_layers import distribute_layers
from snnc.passes.distribute_sums import distribute_sums
from snnc.passes.drop_identities import drop_identities
from snnc.passes.explicit_synapses import explicit_synapses
from snnc.passes.fold_avgpool import fold_avgpool
from snnc.passes.fold_batchnorm import fold_batchnorm
from snnc.passes.unit_thresholds import unit_thresholds

Pass = Callable[[Graph], Graph]
Observer = Callable[[str, Graph], None]

PREPARE: tuple[Pass, ...] = (
    drop_identities,  # first: the others look at neighbours
    distribute_layers,  # what reads a sum of spikes reads spikes
    explicit_synapses,  # gives batch norms and thresholds something to fold into
    distribute_sums,  # before folding: what is folded must have one reader
    fold_batchnorm,  # before pooling: a batch norm may sit between a layer and its pooling
    fold_avgpool,  # then every edge into a neuron is one set of weights
    unit_thresholds,  # last: it divides the weights that the others made
)


def apply(passes: tuple[Pass, ...], graph: Graph, observe: Observer | None = None) -> Graph:
    """Run passes in order, checking the graph before the first and after each.

    `observe` is called with the name of each pass and the graph it left.
    """
    graph = check_graph(graph)
    for transform in passes:
        graph = check_graph(transform(graph))
        if observe is not None:
            observe(transform.__name__, graph)
    return graph
