"""Find values of a traced network that change while someone still reads them.

In PyTorch `relu(x, inplace=True)` changes x for every later reader. The graph has values,
not storage, so such a network would mean something else there.
"""

from __future__ import annotations

import inspect
import operator

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

# What returns its own input or a view of it, in eval mode.
VIEW_MODULES = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
VIEW_FUNCTIONS = frozenset(
    {
        torch.flatten,
        torch.reshape,
        torch.squeeze,
        torch.unsqueeze,
        torch.permute,
        torch.transpose,
        F.dropout,
        F.dropout1d,
        F.dropout2d,
        F.dropout3d,
        F.alpha_dropout,
        F.feature_alpha_dropout,
        operator.getitem,
    }
)
VIEW_METHODS = frozenset(
    """view view_as reshape reshape_as flatten unflatten squeeze unsqueeze permute transpose
    contiguous detach expand expand_as narrow select chunk split float double to t T""".split()
)
INPLACE_OPERATORS = frozenset(
    {operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem}
)


def overwritten(traced: torch.fx.GraphModule) -> list[tuple[torch.fx.Node, torch.fx.Node]]:
    """Return each node that writes in place, with the first later reader of the old value."""
    place = {node: index for index, node in enumerate(traced.graph.nodes)}
    storage: dict[torch.fx.Node, torch.fx.Node] = {}  # the node whose storage this one shows
    found: list[tuple[torch.fx.Node, torch.fx.Node]] = []
    for node in traced.graph.nodes:
        source = _first_argument(node)
        if source is None:
            storage[node] = node
            continue
        module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        view = _is_view(node, module)
        writes = not view and _writes(node, module)
        if writes:
            later = [
                reader
                for value, root in storage.items()
                if root is storage[source]
                for reader in value.users
                if place[reader] > place[node]
            ]
            if later:
                found.append((node, min(later, key=place.__getitem__)))
        storage[node] = storage[source] if view or writes else node
    return found


def _first_argument(node: torch.fx.Node) -> torch.fx.Node | None:
    if node.op not in ("call_module", "call_function", "call_method"):
        return None
    first = node.args[0] if node.args else node.kwargs.get("input")
    return first if isinstance(first, torch.fx.Node) else None


def _writes(node: torch.fx.Node, module: nn.Module | None) -> bool:
    """Say whether a node changes its first argument."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = str(node.target) if node.op == "call_method" else _name(node)
    return (
        node.target in INPLACE_OPERATORS
        or (name.endswith("_") and not name.endswith("__"))
        or _inplace_argument(node)
    )


def _inplace_argument(node: torch.fx.Node) -> bool:
    """Return the argument `inplace` of a function written in Python; False if it has none."""
    if node.op != "call_function" or not inspect.isfunction(node.target):
        return False
    bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    return bound.arguments.get("inplace", False) is True


def _is_view(node: torch.fx.Node, module: nn.Module | None) -> bool:
    if module is not None:
        return isinstance(module, VIEW_MODULES)
    return node.target in (VIEW_METHODS if node.op == "call_method" else VIEW_FUNCTIONS)


def _name(node: torch.fx.Node) -> str:
    return str(getattr(node.target, "__name__", ""))
