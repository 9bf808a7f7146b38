"""How many weights stay, and which: the arithmetic that all pruners share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from snnc.errors import Issue


def kept(weights: int, sparsity: float) -> int:
    """Return how many of a layer's weights stay: n - int((1 - k) n), with k = 1 - sparsity.

    The product is rounded to nine digits first, so that 0.9 of 1000 is 900 although
    floats say otherwise. Source: `layers.py` of inspire-group/hydra.

    >>> kept(1728, 0.9), kept(36864, 0.95), kept(2560, 0.99)
    (173, 1844, 26)
    """
    return weights - int(round(sparsity * weights, 9))


def largest(values: Tensor, count: int) -> Tensor:
    """Return where the `count` largest values are, as bools of their shape.

    Exactly `count` are chosen: of equal values at the limit the first ones stay.

    >>> largest(torch.tensor([[2.0, 5.0], [2.0, 1.0]]), 2).tolist()
    [[True, True], [False, False]]
    """
    if count == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    flat = values.detach().flatten()
    limit = torch.topk(flat, count, sorted=False).values.min()  # on GPUs faster than kthvalue
    chosen = flat >= limit
    excess = int(chosen.sum()) - count
    if excess > 0:
        equal = (flat == limit).nonzero().flatten()
        chosen[equal[len(equal) - excess :]] = False
    return chosen.reshape(values.shape)


def layer_of(parameter: str) -> str:
    """Return the layer that owns a weight.

    >>> layer_of("block.conv.weight"), layer_of("weight")
    ('block.conv', 'weight')
    """
    return parameter.removesuffix(".weight")


def emptied(weights: Mapping[str, Tensor], sparsity: float) -> list[Issue]:
    """Return an issue for each layer that would keep no weight at that sparsity."""
    return [
        empty_layer(name, f"sparsity {sparsity:g}", weight)
        for name, weight in weights.items()
        if kept(weight.numel(), sparsity) == 0
    ]


def empty_layer(name: str, cause: str, weight: Tensor) -> Issue:
    """Return the issue of a layer that loses everything."""
    return Issue(
        layer_of(name),
        f"{cause} leaves none of its {weight.numel()} weights",
        "lower the sparsity or widen the layer",
        "empty-layer",
    )
