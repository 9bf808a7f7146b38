"""One walk over a traced network: each call becomes nodes of the graph, or an issue.

Arithmetic on pixels is collected until somebody else reads it, and then becomes one
`Normalize`. A refused call still has a shape, so that the walk goes on and finds the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from snnc.errors import Issue, Unsupported
from snnc.frontend import synapses
from snnc.frontend.advice import advice
from snnc.frontend.observed import Varying, place
from snnc.frontend.sites import Map, Refused, Result, Rule, Scaling, Site
from snnc.frontend.table import FUNCTIONS, METHODS, MODULES
from snnc.ir.graph import (
    BatchNorm,
    Conv2d,
    Decision,
    Fire,
    Flatten,
    Identity,
    Input,
    Linear,
    Node,
    Normalize,
    Op,
    Readout,
    Relu,
)
from snnc.ir.program import INPUT
from snnc.ir.weights import Shape, floats

READOUT = "readout"
SIZE_METHODS = frozenset({"size", "dim", "ndimension", "numel"})
SIZE_ATTRIBUTES = frozenset({"shape", "ndim", "dtype", "device"})


class _Unknown:
    """What a refused call returned, when that is not one map: nothing more is said about it."""


class Conversion:
    """One walk over a traced network. Nodes and issues collect in order."""

    def __init__(
        self,
        traced: torch.fx.GraphModule,
        seen: Mapping[torch.fx.Node, object],
        input_shape: Shape,
        batch: int,
    ) -> None:
        self.traced, self.seen, self.batch = traced, seen, batch
        self.input_shape = input_shape
        self.nodes = [Node(INPUT, Input(shape=input_shape), ())]
        self.issues: list[Issue] = []
        self.values: dict[torch.fx.Node, object] = {}  # a Map, a constant, or plain Python
        self.normalized: dict[torch.fx.Node, str] = {}  # arithmetic on pixels -> its node's name
        self.owners: dict[int, torch.fx.Node] = {}  # address of a weight -> the layer that uses it
        paths = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
        self.unclaimed = paths - {INPUT}  # names that belong to the first call of a module
        self.taken = paths | {INPUT}

    def run(self) -> tuple[Node, ...]:
        """Convert every call; return the nodes that reach the readout."""
        for node in self.traced.graph.nodes:
            match node.op:
                case "placeholder":
                    channels = self.input_shape[0]
                    pixels = Scaling(mean=floats([0.0] * channels), std=floats([1.0] * channels))
                    self.values[node] = Map(INPUT, self.input_shape, pixels)
                case "output":
                    self._finish(node.args[0])
                case _:
                    self.values[node] = self._value(node)
        if self.issues:
            raise Unsupported(type(self.traced).__name__, self.issues)
        return _reaching_the_end(self.nodes)

    def _value(self, node: torch.fx.Node) -> object:
        """Return what a call computes. A refused call still has a shape, to find further issues."""
        seen = self.seen[node]
        sources = [self.values[source] for source in node.all_input_nodes]
        if not any(isinstance(source, Map | _Unknown) for source in sources):
            return seen  # the same for every image
        refused: object = Map("", seen.shape[1:]) if isinstance(seen, Varying) else _Unknown()
        if any(isinstance(source, _Unknown) for source in sources):
            return refused
        try:
            return self._converted(node, seen) if isinstance(seen, Varying) else _size(node, seen)
        except Refused as reason:
            self.issues.append(Issue(place(node), *reason.args))
            return refused

    def _converted(self, node: torch.fx.Node, seen: Varying) -> Map:
        """Append the ops that take the place of a call; return the map they compute."""
        shape = seen.shape[1:]
        result = self._apply_rule(node, seen)
        if isinstance(result, Scaling):
            return Map(INPUT, shape, result)
        self._refuse_sharing(node, result)
        inputs = tuple(self._source(source) for source in self._maps_of(node))
        name = self._name(node)
        for op in result[:-1]:
            between = self._unique(f"{name}.{type(op).__name__.lower()}")
            self.nodes.append(Node(between, op, inputs))
            inputs = (between,)
        last = result[-1]
        if isinstance(last, BatchNorm):
            last, inputs = self._after_batch_norms(last, *inputs)
        self.nodes.append(Node(name, last, inputs))
        return Map(name, shape, fires=self._fires(last, node))

    def _fires(self, op: Op, node: torch.fx.Node) -> bool:
        """Say whether an op emits what neurons emit."""
        if isinstance(op, Identity):
            read = [self.values[source] for source in self._maps_of(node)]
            return all(isinstance(value, Map) and value.fires for value in read)
        return isinstance(op, Fire | Relu)

    def _after_batch_norms(self, op: BatchNorm, source: str) -> tuple[BatchNorm, tuple[str, ...]]:
        """Return a batch norm of a batch norm as one, and what that one reads."""
        first = next(node for node in self.nodes if node.name == source)
        if not isinstance(first.op, BatchNorm):
            return op, (source,)
        return synapses.composed(first.op, op), first.inputs

    def _apply_rule(self, node: torch.fx.Node, seen: Varying) -> Result:
        site = Site(node, seen.shape[1:])
        target: object = node.target
        before: tuple[object, ...] = (site,)
        rule: Rule | None
        match node.op:
            case "call_module":
                target = self.traced.get_submodule(str(node.target))
                before = (site, target)
                rule = MODULES.get(type(target))
            case "call_method":
                rule = METHODS.get(str(target))
            case _:
                rule = FUNCTIONS.get(target)
        if rule is None:
            problem, remedy = advice(target)
            raise Refused(f"{_kind(target)} {problem}", remedy, "unsupported")
        if seen.shape[:1] != (self.batch,):
            raise Refused(
                f"mixes images: a batch of {self.batch} gives {seen.shape}",
                "keep the batch as the first dimension, for example with x.flatten(1)",
                "batch",
            )
        args: Any = torch.fx.node.map_arg(node.args, self._argument)
        kwargs: Any = torch.fx.node.map_arg(node.kwargs, self._argument)
        try:
            bound = inspect.signature(rule).bind(*before, *args, **kwargs)
        except TypeError as error:
            raise Refused(
                f"{_kind(target)} is called with arguments that have no rule ({error})",
                "leave them out",
                "arguments",
            ) from error
        return rule(*bound.args, **bound.kwargs)

    def _argument(self, node: torch.fx.Node) -> Any:  # noqa: ANN401 - whatever the user passes
        return self.values[node]

    def _maps_of(self, node: torch.fx.Node) -> list[torch.fx.Node]:
        """Return the arguments that depend on the image, in order, repeats included."""
        found: list[torch.fx.Node] = []

        def visit(source: torch.fx.Node) -> torch.fx.Node:
            if isinstance(self.values[source], Map):
                found.append(source)
            return source

        torch.fx.node.map_arg((node.args, node.kwargs), visit)
        return found

    def _source(self, node: torch.fx.Node) -> str:
        """Return the name of the graph node that computes a map; normalise pixels first."""
        value = self.values[node]
        assert isinstance(value, Map)  # noqa: S101 - _maps_of returns nothing else
        if value.scaling is None or node.op == "placeholder":
            return value.source
        if node not in self.normalized:
            op = Normalize(mean=value.scaling.mean, std=value.scaling.std)
            self.normalized[node] = self._name(node)
            self.nodes.append(Node(self.normalized[node], op, (INPUT,)))
        return self.normalized[node]

    def _refuse_sharing(self, node: torch.fx.Node, ops: tuple[Op, ...]) -> None:
        """Refuse weights that another layer uses already."""
        if not any(isinstance(op, Conv2d | Linear | BatchNorm | Fire) for op in ops):
            return
        for address in {tensor.data_ptr() for tensor in self._tensors(node) if tensor.numel()}:
            owner = self.owners.setdefault(address, node)
            if owner is not node:
                raise Refused(
                    f"shares its weights with {_other(owner, node)}, and a chip stores and "
                    "counts the synapses of every layer",
                    "give each place a module of its own (copy.deepcopy)",
                    "weight-sharing",
                )

    def _tensors(self, node: torch.fx.Node) -> list[Tensor]:
        """Return the parameters and buffers that a call reads."""
        if node.op == "call_module":
            module = self.traced.get_submodule(str(node.target))
            return [*module.parameters(), *module.buffers()]
        values = [self.seen[source] for source in self._attributes_of(node)]
        return [value for value in values if isinstance(value, Tensor)]

    def _attributes_of(self, node: torch.fx.Node) -> list[torch.fx.Node]:
        """Return the nodes that fetch the constants of a call, through what is computed of them."""
        found: list[torch.fx.Node] = []
        for source in node.all_input_nodes:
            if source.op == "get_attr":
                found.append(source)
            elif not isinstance(self.seen[source], Varying):
                found += self._attributes_of(source)
        return found

    def _name(self, node: torch.fx.Node) -> str:
        """Return the user's name for a call: its module's path, that of the module which owns its
        constants, or what tracing calls it.
        """
        if node.op == "call_module" and node.target in self.unclaimed:
            self.unclaimed.remove(str(node.target))
            return str(node.target)
        owners = [str(source.target).rpartition(".")[0] for source in self._attributes_of(node)]
        path = str(node.target) if node.op == "call_module" else next(filter(None, owners), "")
        return self._unique(path or node.name)

    def _unique(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        return name

    def _finish(self, output: object) -> None:
        """Append the readout of what the network returns."""
        value = self.values[output] if isinstance(output, torch.fx.Node) else output
        if isinstance(value, _Unknown):
            return
        if not isinstance(value, Map) or len(value.shape) != 1:
            shape = f"shape {value.shape}" if isinstance(value, Map) else "no map of the image"
            remedy = (
                "return (samples, classes) logits, for example through nn.Flatten and nn.Linear"
            )
            self.issues.append(Issue("forward", f"returns {shape}", remedy, "outputs"))
            return
        assert isinstance(output, torch.fx.Node)  # noqa: S101 - a Map comes from a node
        last = self._source(output)
        self.nodes.append(
            Node(self._unique(READOUT), Readout(decision=_decision(self.nodes, last)), (last,))
        )


def _size(node: torch.fx.Node, seen: object) -> object:
    """Return a size, which all images share; refuse other Python values made of the image."""
    by_method = node.op == "call_method" and node.target in SIZE_METHODS
    by_attribute = node.target is getattr and node.args[1] in SIZE_ATTRIBUTES
    if by_method or by_attribute:
        return seen
    problem, remedy = advice(node.target)
    raise Refused(f"{_kind(node.target)} {problem}", remedy, "unsupported")


def _other(owner: torch.fx.Node, node: torch.fx.Node) -> str:
    return "an earlier call of itself" if place(owner) == place(node) else place(owner)


def _kind(target: object) -> str:
    """Return what to call a module, a function or a method in an error."""
    if isinstance(target, nn.Module):
        return type(target).__name__
    return str(target if isinstance(target, str) else getattr(target, "__name__", target))


def _decision(nodes: list[Node], last: str) -> Decision:
    """Return what the readout compares: spike counts if the last layer spikes."""
    graph = {node.name: node for node in nodes}
    while last in graph and isinstance(graph[last].op, Flatten | Identity):
        (last,) = graph[last].inputs
    spikes = last in graph and isinstance(graph[last].op, Fire)
    return Decision.SPIKES if spikes else Decision.MEMBRANE


def _reaching_the_end(nodes: list[Node]) -> tuple[Node, ...]:
    """Leave out what the last node does not read: maps of which only the size was used."""
    wanted = {nodes[-1].name}
    kept = []
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))
