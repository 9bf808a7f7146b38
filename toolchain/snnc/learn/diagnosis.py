"""Where a training went wrong: the first layer that holds or returns no number."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnc.learn.views import eval_view


def finite(network: nn.Module) -> bool:
    """Tell whether every parameter and buffer is finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())


@torch.no_grad()
def first_not_finite(network: nn.Module, images: Tensor) -> str:
    """Say which layer is the first to hold or to return something that is not finite."""
    for name, parameter in network.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"layer {name.rpartition('.')[0]} has a {name.rpartition('.')[2]} not finite"
    found: list[str] = []
    watched = eval_view(network)
    for name, module in watched.named_modules():
        if not list(module.children()):
            module._forward_hooks = module._forward_hooks.copy()
            module.register_forward_hook(
                lambda _m, _x, y, name=name: None if torch.isfinite(y).all() else found.append(name)
            )
    watched(images)
    return (
        f"layer {found[0]} is the first whose output is not finite"
        if found
        else ("every layer's output is finite on the clean images")
    )
