"""Products in bfloat16, logits in float32.

A divergence of nearly equal predictions is a difference of nearly equal numbers: with
logits of 8 bits it is all rounding (1e-3 where float32 says 1e-6, for epsilon 2/255 on an
untrained network). So whatever the precision, the readout runs in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.learn.views import eval_view

Precision = Literal["float32", "bfloat16"]


@contextmanager
def logits_in_float32(network: nn.Module, image: Tensor, precision: Precision) -> Iterator[None]:
    """Run the network's readout in float32 for the time, also in views of the network.

    The readout is the linear layer that runs last on the image (1, C, H, W). Where a network
    ends otherwise, its output is converted.
    """
    if precision == "float32":
        yield
        return
    readout = _last_linear(network, image)
    hooks = [network.register_forward_hook(lambda _module, _inputs, output: output.float())]
    if readout is not None:
        hooks.append(readout.register_forward_hook(_again_in_float32))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _last_linear(network: nn.Module, image: Tensor) -> nn.Linear | None:
    """Return the linear layer that runs last, if any runs."""
    called: list[str] = []
    watched = eval_view(network)
    for name, module in watched.named_modules():
        if isinstance(module, nn.Linear):
            module._forward_hooks = module._forward_hooks.copy()
            module.register_forward_hook(lambda _m, _x, _y, name=name: called.append(name))
    watched(image)
    last = network.get_submodule(called[-1]) if called else None
    return last if isinstance(last, nn.Linear) else None


def _again_in_float32(module: nn.Linear, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
    with torch.autocast(inputs[0].device.type, enabled=False):
        return F.linear(inputs[0].float(), module.weight, module.bias)
