"""What the passes that copy synapses leave in the provenance, how often they may, and names."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

from snnc.errors import InvalidFile, Issue
from snnc.ir.graph import Graph, Node, Synaptic
from snnc.ir.program import Program
from snnc.ir.weights import nonzeros

USES = 16  # of one layer with weights; n residual blocks in a row need up to n + 1
COPIES = "copied_synapses"  # in the provenance: from the name of each copy to its original's


def with_copies(graph: Graph, copies: Mapping[str, str]) -> Graph:
    """Return the graph with more copies in its provenance; a copy of a copy names the first.

    Raises:
        InvalidFile: the list in its provenance is damaged.
    """
    before = _listed(graph.provenance)
    found = {**before, **{new: before.get(old, old) for new, old in copies.items()}}
    return replace(graph, provenance={**graph.provenance, COPIES: found})


def copied(program: Program) -> Mapping[str, str]:
    """Map each bundle of a program that is a copy to the name of the layer it is a copy of.

    Raises:
        InvalidFile: the list in its provenance is damaged.
    """
    return _listed(program.provenance)


def copied_weights(program: Program) -> int:
    """Return how many non-zero weights of a program are in copies.

    Raises:
        InvalidFile: see `copied`.
    """
    copies = copied(program)
    return sum(
        nonzeros(bundle.weight)
        for population in program.populations
        for bundle in population.synapses
        if bundle.name in copies
    )


def too_many(node: Node, op: Synaptic, uses: int, why: str, remedy: str) -> tuple[Issue, ...]:
    """Return an issue if a layer would be used more than `USES` times."""
    if uses <= USES:
        return ()
    problem = f"{why}, and each would need a copy of its {nonzeros(op.weight)} weights"
    return (Issue(node.name, problem, remedy, "copies", need=uses, limit=USES),)


def unused_name(wanted: str, taken: Container[str]) -> str:
    """Return the name for a new node, with a number if it is taken.

    >>> unused_name("relu2.conv1", {"relu2.conv1", "relu2.conv1.1"})
    'relu2.conv1.2'
    """
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}.{count}"
    return name


def _listed(provenance: Mapping[str, object]) -> dict[str, str]:
    listed = provenance.get(COPIES, {})
    if not isinstance(listed, Mapping):
        raise _damaged(f"{type(listed).__name__} instead of a table")
    for copy, original in listed.items():
        if not (isinstance(copy, str) and isinstance(original, str)):
            raise _damaged(f"{original!r} for {copy!r} instead of a name")
    return dict(listed)


def _damaged(problem: str) -> InvalidFile:
    return InvalidFile(f"{COPIES} in the provenance is damaged ({problem}); compile again")
