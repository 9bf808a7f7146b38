"""Learned scores: each weight has one, and in each layer the weights of the largest stay.

While scores are learned, a layer's weight is a torch parametrisation:

    w_eff = w * mask,    mask = 1 for the largest |s| of the tensor, else 0

The mask passes its gradient on as it is (straight through), so every score learns, those
of absent weights too:

    dL/ds = (dL/dw_eff) * w * sign(s)

Afterwards `masked_network` returns a plain network. Source: Sehwag et al., NeurIPS 2020,
section 3, and `layers.py` and `model.py` of inspire-group/hydra; rates are those of HARP.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from math import log, sqrt

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from snnc.errors import Issue, Refusal
from snnc.learn.prune.counts import kept, largest, layer_of
from snnc.learn.prune.masks import apply_masks, prunable

DIGITS = 6  # of a rate, when weights are counted: float32 knows 0.1 to about 8


class Rate(nn.Module):
    """The learned share of a layer's weights that stay, between `least` and 1:

        r = least + (1 - least) sigmoid(logit)

    Source: `rate_act_func` of intellisec/harp.
    """

    def __init__(self, *, least: float, start: float, like: Tensor) -> None:
        super().__init__()
        share = (start - least) / (1 - least)
        self.least = least
        self.logit = nn.Parameter(like.new_tensor(log(share / (1 - share))))

    def forward(self) -> Tensor:
        """Return r, a scalar."""
        return self.least + (1 - self.least) * torch.sigmoid(self.logit)


class Scored(nn.Module):
    """Parametrisation of a weight by scores; `sparsity` is fixed, or follows a learned rate."""

    def __init__(self, score: Tensor, sparsity: float | Rate) -> None:
        super().__init__()
        self.score = nn.Parameter(score)
        self.sparsity = sparsity

    def forward(self, weight: Tensor) -> Tensor:
        """Return the masked weight."""
        rate = self.sparsity() if isinstance(self.sparsity, Rate) else None
        mask: Tensor = _Select.apply(self.score.abs(), rate, self.count())  # type: ignore[no-untyped-call]
        return weight * mask

    def count(self) -> int:
        """Return how many weights stay."""
        if isinstance(self.sparsity, Rate):
            rate = round(float(self.sparsity().detach()), DIGITS)
            return kept(self.score.numel(), 1 - rate)
        return kept(self.score.numel(), self.sparsity)

    def mask(self) -> Tensor:
        """Return where the weights that stay are."""
        return largest(self.score.abs(), self.count())


class _Context(FunctionCtx):
    """What the backward pass needs to know."""

    needs_input_grad: tuple[bool, ...]


class _Select(torch.autograd.Function):
    """The mask of the largest values. A change of the mask is a change of values and rate.

    The gradient goes straight to the values, and its sum to the rate.
    """

    @staticmethod
    def forward(_: _Context, values: Tensor, rate: Tensor | None, count: int) -> Tensor:
        return largest(values, count).to(values.dtype)

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (gradient,) = gradients
        return gradient, gradient.sum() if ctx.needs_input_grad[1] else None, None


def initial_scores(weight: Tensor) -> Tensor:
    """Return s = sqrt(6 / fan_in) * w / max|w|, so that the first mask is that of LWM.

    `--scaled-score-init` of inspire-group/hydra. The weight may not be all zero.
    """
    w = weight.detach()
    return sqrt(6 / w[0].numel()) * w / w.abs().max()


def score(network: nn.Module, sparsities: Mapping[str, float | Rate]) -> dict[str, Scored]:
    """Give every prunable weight its scores, in place; return them by the weight's name.

    Everything is frozen but the scores, the rates, and the affine part of batch norm, whose
    running statistics go on (HYDRA's `freeze_vars` with `freeze_bn` off).

    Raises:
        Refusal: the weights of a layer are all zero, so none is larger than another.
    """
    weights = prunable(network)
    if zero := [layer_of(name) for name, weight in weights.items() if not weight.any()]:
        raise Refusal("cannot score the network", [_all_zero(layer) for layer in zero])
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(isinstance(module, _BatchNorm))
    scored = {n: Scored(initial_scores(w), sparsities[n]) for n, w in weights.items()}
    for name, module in scored.items():
        owner = network.get_submodule(name.rpartition(".")[0])
        parametrize.register_parametrization(owner, "weight", module)
    return scored


def trainable(network: nn.Module) -> tuple[nn.Parameter, ...]:
    """Return what a fit of the scores moves."""
    return tuple(p for p in network.parameters() if p.requires_grad)


def masked_network(scored: nn.Module, *, like: nn.Module) -> nn.Module:
    """Return a plain network, in eval mode: the zeros of its weights are the masks.

    `like` is the network as it was before it was scored: weights that survive are its, bit
    for bit. Batch norm is that of the scored network. (Built anew, since copies of a
    parametrised module share a class, so that none can be freed from it alone.)
    """
    plain = copy.deepcopy(like)
    learned = scored.state_dict()
    plain.load_state_dict(
        {name: learned.get(name, old) for name, old in plain.state_dict().items()}
    )
    masks: dict[str, Tensor] = {}
    for name, module in scored.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            (rule,) = module.parametrizations["weight"]
            masks[f"{name}.weight" if name else "weight"] = rule.mask()
    apply_masks(plain, masks)
    return plain.eval()


def _all_zero(layer: str) -> Issue:
    return Issue(layer, "its weights are all zero", "train the network first", "all-zero")
