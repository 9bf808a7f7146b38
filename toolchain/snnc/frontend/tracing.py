"""Record what a PyTorch network does, as a torch.fx graph: one tracer for all of `snnc`.

A traced network calls the user's own modules by their paths, so names survive. What fx
cannot record faithfully is refused here, so that everyone who traces may trust the result:
control flow that depends on data, hooks, and values that change in place while someone
still reads them.
"""

from __future__ import annotations

import operator
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.fx
from torch import nn

from snnc.errors import Issue, Unsupported
from snnc.frontend.aliasing import overwritten

TORCH = os.path.dirname(torch.__file__) + os.sep
NEW_TENSOR: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def trace(network: nn.Module, *, leaves: tuple[type[nn.Module], ...] = ()) -> torch.fx.GraphModule:
    """Record the forward pass of a network in eval mode; share its modules, do not change it.

    Modules of `torch.nn` (except containers) and of the types in `leaves` are called as a
    whole; the user's own modules are traced through. `self.training` is read once, as False,
    so `F.dropout(x, training=self.training)` is recorded as doing nothing; an `nn.Dropout`
    keeps its mode.

    What computes nothing that reaches the output is left out.

    Raises:
        Unsupported: the forward pass branches or loops on data, uses Python that fx cannot
            follow, reads or returns anything but one tensor, has hooks, or overwrites a
            value that it reads later.
    """
    name = type(network).__name__
    if issues := _hooks(network):
        raise Unsupported(name, issues)
    tracer = _Tracer(leaves)
    with _attributes_kept(network), evaluating(network):
        try:
            graph = tracer.trace(network)
        except Exception as error:
            raise Unsupported(name, [_failure(tracer, error)]) from error
        issues = _signature(graph)
        traced = torch.fx.GraphModule(tracer.root, graph, class_name=name)
    if issues := [*issues, *_overwrites(traced)]:
        raise Unsupported(name, issues)
    for node in graph.nodes:  # nobody sees the difference now, and autograd prefers new tensors
        node.target = NEW_TENSOR.get(node.target, node.target)
    graph.eliminate_dead_code()
    traced.recompile()
    traced.training = network.training
    return traced


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and back into the mode it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _attributes_kept(network: nn.Module) -> Iterator[None]:
    """Undo what a forward pass, or fx, sets on the modules (`self.last = x`, new constants)."""
    kept = [(module, dict(vars(module))) for module in network.modules()]
    try:
        yield
    finally:
        for module, attributes in kept:
            vars(module).clear()
            vars(module).update(attributes)


class _Proxy(torch.fx.Proxy):
    """A recorded value; fx alone would record `x += y` as if nobody else could see x change."""

    def __iadd__(self, other: object) -> torch.fx.Proxy:
        return self._recorded(operator.iadd, other, "add")

    def __isub__(self, other: object) -> torch.fx.Proxy:
        return self._recorded(operator.isub, other, "sub")

    def __imul__(self, other: object) -> torch.fx.Proxy:
        return self._recorded(operator.imul, other, "mul")

    def __itruediv__(self, other: object) -> torch.fx.Proxy:
        return self._recorded(operator.itruediv, other, "truediv")

    def _recorded(self, function: Callable[..., Any], other: object, name: str) -> torch.fx.Proxy:
        proxy: torch.fx.Proxy = self.tracer.create_proxy(
            "call_function", function, (self, other), {}, name=name
        )
        return proxy


class _Tracer(torch.fx.Tracer):
    """fx's tracer with chosen leaves; remembers the innermost module that failed."""

    def __init__(self, leaves: tuple[type[nn.Module], ...] = ()) -> None:
        super().__init__()
        self.leaves = leaves
        self.failed_in: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        return _Proxy(node, self)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:  # noqa: ANN401 - the signature is fx's
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed_in is None:
                self.failed_in = self.path_of_module(m)
            raise


def _failure(tracer: _Tracer, error: Exception) -> Issue:
    """Explain why tracing stopped, and where in the user's code."""
    place = tracer.failed_in or type(tracer.root).__name__
    # Outside of torch, this file and generated code, the innermost line is the user's.
    lines = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((TORCH, __file__, "<"))
    ]
    where = f" at {lines[-1].filename}:{lines[-1].lineno} ({lines[-1].line})" if lines else ""
    if isinstance(error, torch.fx.proxy.TraceError) and "control flow" in str(error):
        return Issue(
            place,
            f"control flow depends on the data{where}",
            "a chip runs the same layers for every image: decide on constants, "
            "or give each branch a network of its own",
            "control-flow",
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    return Issue(
        place,
        f"cannot be traced{where}: {reason}",
        "write the forward pass with torch functions of one tensor, without Python on its values",
        "not-traceable",
    )


def _hooks(network: nn.Module) -> list[Issue]:
    """Refuse forward hooks: tracing passes some by, so the record would not be the network."""
    return [
        Issue(
            path or type(network).__name__,
            "has a forward hook, which tracing would pass by",
            "remove it (torch.nn.utils.prune.remove makes a pruned weight permanent)",
            "hook",
        )
        for path, module in network.named_modules()
        if module._forward_hooks or module._forward_pre_hooks
    ]


def _signature(graph: torch.fx.Graph) -> list[Issue]:
    """Erase unused optional inputs; refuse a second input or an output that is not one value."""
    issues: list[Issue] = []
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    for node in inputs[1:]:
        if node.args and not node.users:
            graph.erase_node(node)
            continue
        issues.append(
            Issue(
                str(node.target),
                "is a second input of the network",
                "wrap the network in a module whose forward reads the images only",
                "inputs",
            )
        )
    if not inputs:
        issues.append(Issue("forward", "reads no input", "write forward(self, images)", "inputs"))
    if not isinstance(graph.output_node().args[0], torch.fx.Node):
        issues.append(
            Issue(
                "forward",
                "does not return one tensor",
                "return the logits only, for example from a wrapping module",
                "outputs",
            )
        )
    return issues


def _overwrites(traced: torch.fx.GraphModule) -> list[Issue]:
    """Refuse a value that changes in place while a later node still reads the old one."""
    return [
        Issue(
            str(writer.target) if writer.op == "call_module" else writer.name,
            f"changes its input in place, and {reader.name} reads that input later",
            "use the variant that is not in place (inplace=False, x = x + y)",
            "in-place",
        )
        for writer, reader in overwritten(traced)
    ]
