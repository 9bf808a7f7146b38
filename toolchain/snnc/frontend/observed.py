"""Run a traced network once, on empty images, to learn the shape or value of every step.

A step's value depends on the image (then only its shape is kept), or it does not: then it
is a constant tensor, or plain Python such as a size, and is kept itself.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
import torch.fx
from torch import Tensor, nn

from snnc.errors import Issue, Unsupported
from snnc.frontend.tracing import evaluating
from snnc.ir.weights import Shape


@dataclass(frozen=True)
class Varying:
    """A tensor that depends on the image."""

    shape: Shape  # with the batch in front


def observe(traced: torch.fx.GraphModule, images: Tensor) -> dict[torch.fx.Node, object]:
    """Map each node to `Varying`, a constant tensor, or a Python value; in eval mode.

    Raises:
        Unsupported: a module or function does not accept what it is given.
    """
    recorder = _Recorder(traced)
    with evaluating(traced), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a module says about speed is not ours to repeat
        recorder.run(images)
    return recorder.seen


def empty_images(network: nn.Module, shape: Shape) -> Tensor:
    """Return images of zeros, of the type and on the device that a network computes with."""
    tensors = (*network.parameters(), *network.buffers())
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.zeros(()))
    return torch.zeros(shape, dtype=like.dtype, device=like.device)


def place(node: torch.fx.Node) -> str:
    """Return where a node stands, in the words of the user: module path, then function."""
    if node.op == "call_module":
        return str(node.target)
    inside = [path for path in node.meta.get("nn_module_stack", {}) if path]
    return f"{inside[-1]}.{node.name}" if inside else node.name


class _Recorder(torch.fx.Interpreter):
    def __init__(self, traced: torch.fx.GraphModule) -> None:
        super().__init__(traced)
        self.extra_traceback = False  # errors are ours, fx must not rewrite them
        self.network = type(traced).__name__
        self.seen: dict[torch.fx.Node, object] = {}

    def run_node(self, n: torch.fx.Node) -> Any:  # noqa: ANN401 - the signature is fx's
        try:
            value = super().run_node(n)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            shapes = [seen.shape for seen in map(self.seen.get, n.all_input_nodes) if _varies(seen)]
            issue = Issue(
                place(n),
                f"fails on a batch of shape {', '.join(map(str, shapes))}: {reason}",
                "check the layer, and pass the shape of the images it was made for",
                "shape",
            )
            raise Unsupported(self.network, [issue]) from error
        self.seen[n] = self._kept(n, value)
        return value

    def _kept(self, node: torch.fx.Node, value: object) -> object:
        reads_image = node.op == "placeholder" or any(
            isinstance(self.seen[source], Varying) for source in node.all_input_nodes
        )
        return Varying(tuple(value.shape)) if reads_image and isinstance(value, Tensor) else value


def _varies(seen: object) -> TypeGuard[Varying]:
    return isinstance(seen, Varying)
