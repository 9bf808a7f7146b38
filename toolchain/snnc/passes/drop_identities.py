"""Remove nodes that do nothing."""

from __future__ import annotations

from snnc.ir.graph import Graph, Identity
from snnc.passes.rewrite import bypass


def drop_identities(graph: Graph) -> Graph:
    """Remove each Identity (what dropout is at inference): x = x."""
    for node in graph.nodes:
        if isinstance(node.op, Identity):
            graph = bypass(graph, node.name)
    return graph
