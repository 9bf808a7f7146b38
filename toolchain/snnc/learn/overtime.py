"""Run a network over time: what is the same at every step is computed once.

With direct coding the image is the input of every step, so everything up to the first
layer of neurons (in the usual network: the normalisation, the first convolution and its
batch norm) has the same value at every step. It is computed on N rows; the first `Fire`
that reads it gets it as a constant current, anything else reads T copies of it.

Batch norm makes nothing of copies: mean and variance of T equal copies are those of one,
and so are the gradients. Only the running variance differs: torch estimates it without
bias, as n / (n - 1) times the variance of n values, and T copies are T n values.

Convolutions that it suits are computed as `snnc.learn.winograd` does.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnc.learn.neurons import Fire
from snnc.learn.winograd import convolve, suits

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
BY_ROW = (  # modules whose output has a row for each row of the input, and which draw nothing
    *NORMS,
    nn.Conv1d,
    nn.Conv2d,
    nn.Linear,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
)
ARITHMETIC = frozenset(
    {operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.sub, torch.mul}
)


def run_over_time(body: fx.GraphModule, images: Tensor, steps: int) -> Tensor:
    """Return what `body` gives for the images (N, ...) at every step: (T * N, ...), time-major.

    The same as body(T copies of the images), running statistics of batch norm included, up
    to the order of floating-point sums.
    """
    result: Tensor = _OverTime(body, steps).run(images)
    return result


class _OverTime(fx.Interpreter):
    def __init__(self, body: fx.GraphModule, steps: int) -> None:
        super().__init__(body)
        self.extra_traceback = False  # an error of a layer keeps its own text
        self.steps = steps
        self.held = _held(body)

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - the signature is fx's
        module = self.submodules[str(n.target)] if n.op == "call_module" else None
        if isinstance(module, Fire) and n.args[0] in self.held:
            return module(self.env[n.all_input_nodes[0]], constant=True)
        if isinstance(module, NORMS) and n in self.held:
            return _norm_once(module, self.env[n.all_input_nodes[0]], self.steps)
        if type(module) is nn.Conv2d and not module._forward_hooks | module._forward_pre_hooks:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            rows = args[0] if args else kwargs["input"]
            if suits(module, rows):
                result = convolve(rows, module.weight)
                return result if module.bias is None else result + module.bias.view(-1, 1, 1)
        return super().run_node(n)

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = n.args, n.kwargs
        read = self._as_it_is if n in self.held else self._over_time
        return fx.node.map_arg(args, read), fx.node.map_arg(kwargs, read)

    def _as_it_is(self, node: fx.Node) -> Any:  # noqa: ANN401 - a graph holds any value
        return self.env[node]

    def _over_time(self, node: fx.Node) -> Any:  # noqa: ANN401
        value = self.env[node]
        return repeated(value, self.steps) if node in self.held else value


def repeated(rows: Tensor, steps: int) -> Tensor:
    """Return `steps` copies of the rows, one after the other."""
    return rows.repeat(steps, *(1,) * (rows.dim() - 1))


def _held(body: fx.GraphModule) -> frozenset[fx.Node]:
    """Return the nodes whose value is a row for each image and the same at every step.

    What is not known to be computed row by row is left out, and gets all the copies: above
    all the number of rows itself, as `x.size(0)` or `x.shape` give it.
    """
    held: set[fx.Node] = set()
    for node in body.graph.nodes:
        match node.op:
            case "placeholder":
                known = True
            case "call_module":
                known = isinstance(body.get_submodule(str(node.target)), BY_ROW)
            case "call_function":
                known = node.target in ARITHMETIC
            case _:
                known = False
        inputs = [each for each in node.all_input_nodes if each.op != "get_attr"]
        if known and held.issuperset(inputs) and (inputs or node.op == "placeholder"):
            held.add(node)
    return frozenset(held)


def _norm_once(norm: BatchNorm, x: Tensor, steps: int) -> Tensor:
    """Return the batch norm of N rows, with the statistics of `steps` copies of them.

    With m the momentum, v the variance without Bessel's correction and c(n) = n / (n - 1):
    torch leaves r' = (1 - m) r + m v c(n), and r'' = (1 - m) r + m v c(T n) is wanted.
    """
    values = x.numel() // x.shape[1]
    updates = norm.training and norm.running_var is not None
    if values == 1 and updates:  # torch has no variance of one value
        return torch.as_tensor(norm(repeated(x, steps)))[: len(x)]
    before = norm.running_var.clone() if updates and norm.running_var is not None else None
    normalised: Tensor = norm(x)
    if before is not None and norm.running_var is not None:
        counted = norm.num_batches_tracked
        momentum = norm.momentum if norm.momentum is not None else 1 / float(counted)  # type: ignore[arg-type]
        ratio = steps * (values - 1) / (steps * values - 1)
        # autograd holds the running variance, which the backward pass of training never reads;
        # `data` changes it as torch's own kernel does, without invalidating that
        norm.running_var.data.mul_(ratio).add_(before, alpha=(1 - momentum) * (1 - ratio))
    return normalised
