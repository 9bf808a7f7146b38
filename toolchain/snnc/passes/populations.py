"""A prepared graph as what will become integers: float populations and their synapses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snnc.errors import InvalidGraph, Issue
from snnc.ir.check import shapes
from snnc.ir.graph import Conv2d, Fire, Graph, Linear, Node, Normalize, Synaptic
from snnc.ir.program import INPUT
from snnc.ir.weights import FloatArray, FloatWeight, Shape, floats, row_magnitudes
from snnc.passes.image import ImageCoding, absorb
from snnc.passes.rewrite import drive, through_flatten


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatBundle:
    """Float synapses that read spikes or codes, on their way to integers."""

    name: str
    source: str  # a population's name, or INPUT
    op: Synaptic  # as the graph has it: for the image, before its coding was absorbed
    weight: FloatWeight
    bias: FloatArray
    peak: int  # the largest magnitude of what it reads: 1, or of a code

    @property
    def reach(self) -> FloatArray:
        """The largest |current| of each output."""
        return floats(row_magnitudes(self.weight) * self.peak)


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatPopulation:
    """A spiking layer, or the last layer that does not spike (`fire` is None)."""

    node: str  # of the graph: the Fire, or the Readout
    shape: Shape
    bundles: tuple[FloatBundle, ...]
    fire: Fire | None

    @property
    def name(self) -> str:
        """The name it will have in the program: that of its first synapses."""
        return self.bundles[0].name

    @property
    def bias(self) -> FloatArray:
        """The bias of each output: the sum over its bundles."""
        return floats(sum((bundle.bias for bundle in self.bundles[1:]), start=self.bundles[0].bias))

    @property
    def on_host(self) -> bool:
        """Whether all that it reads is the image."""
        return all(bundle.source == INPUT for bundle in self.bundles)


def populations(graph: Graph, coding: ImageCoding) -> tuple[FloatPopulation, ...]:
    """Return the populations of a prepared graph, in the order of the program.

    Raises:
        InvalidGraph: PREPARE has not run on it.
    """
    found = shapes(graph)
    result: list[FloatPopulation] = []
    names = {graph.nodes[0].name: INPUT}  # of graph nodes -> of what synapses may read
    for node in graph.nodes:
        match node.op:
            case Normalize():
                names[node.name] = INPUT
            case Fire() as fire:
                bundles = _bundles(graph, node, names, coding)
                if fire.threshold.shape != ():
                    name = bundles[0].name
                    problem = Issue(name, "has several thresholds", "run PREPARE first", "order")
                    raise InvalidGraph([problem])
                names[node.name] = bundles[0].name
                result.append(
                    FloatPopulation(
                        node=node.name,
                        shape=found[bundles[0].name],
                        bundles=tuple(bundles),
                        fire=fire,
                    )
                )
    last = graph.nodes[-1]
    if not isinstance(through_flatten(graph, last.inputs[0]).op, Fire):
        bundles = _bundles(graph, last, names, coding)
        result.append(
            FloatPopulation(
                node=last.name,
                shape=found[bundles[0].name],
                bundles=tuple(bundles),
                fire=None,
            )
        )
    return tuple(result)


def _bundles(
    graph: Graph, node: Node, names: dict[str, str], coding: ImageCoding
) -> Sequence[FloatBundle]:
    nodes, blocked = drive(graph, node)
    issues = list(blocked)
    bundles = []
    for synapse in nodes:
        op = synapse.op
        assert isinstance(op, Conv2d | Linear)  # noqa: S101 - what drive returns
        origin = through_flatten(graph, synapse.inputs[0])
        if origin.name not in names:
            issues.append(
                Issue(
                    synapse.name,
                    f"reads {origin.name}, which does not spike",
                    "put a spiking layer (a ReLU before conversion) between two linear layers",
                    "order",
                )
            )
            continue
        source = names[origin.name]
        weight, bias = absorb(op, coding) if source == INPUT else (op.weight, op.bias)
        bundles.append(
            FloatBundle(
                name=synapse.name,
                source=source,
                op=op,
                weight=weight,
                bias=bias,
                peak=coding.peak if source == INPUT else 1,
            )
        )
    found = shapes(graph)
    issues += [
        Issue(
            bundle.name,
            f"yields {found[bundle.name]} where {bundles[0].name} yields {found[bundles[0].name]}",
            "add maps before they are flattened",
            "shape",
        )
        for bundle in bundles
        if found[bundle.name] != found[bundles[0].name]
    ]
    if issues:
        raise InvalidGraph(issues)
    return bundles
