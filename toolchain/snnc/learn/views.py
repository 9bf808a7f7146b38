"""A second look at a network: the same parameters, another mode.

An attack needs gradients of a network in eval mode in the middle of a training step. It
gets a view, so it cannot leave the network in another mode, surrogate or state.
"""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def eval_view(network: Network) -> Network:
    """Return a structural copy in eval mode that shares every parameter and buffer.

    Modules are new objects (one for each original, however often it is used), so modes and
    plain attributes of the copy may change freely; tensors are the same objects, so a
    training step of the original shows in the copy.
    """
    return _copied(network, {}).eval()


def _copied(module: Network, done: dict[nn.Module, Any]) -> Network:
    if module in done:
        known: Network = done[module]
        return known
    copy: Network = object.__new__(type(module))  # not `__new__`: fx would make a new class
    done[module] = copy
    copy.__dict__.update(module.__dict__)
    copy._parameters = dict(module._parameters)
    copy._buffers = dict(module._buffers)
    copy._modules = {
        name: None if child is None else _copied(child, done)
        for name, child in module._modules.items()
    }
    return copy
