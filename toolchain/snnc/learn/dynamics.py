"""Neurons over all their steps at once: one node of autograd instead of ten for each step.

Forward, with v = 0 before the first step and theta the threshold in use:

    v-(t) = keep v(t - 1) + I(t);   s(t) = [v-(t) >= theta];   v(t) = v-(t) (1 - s(t))
                                                         or v(t) = v-(t) - theta s(t)

Backward is the reverse scan of exactly these equations, with the surrogate's derivative
d(t) in the place of ds/dv-. With g(t) what arrives at s(t), h(t) what arrives at v(t)
from the next step, and G(t) what leaves for v-(t), which is also what leaves for I(t):

    h(t) = keep G(t + 1)
    e(t) = (g(t) - h(t) v-(t)) d(t)    G(t) = e(t) + h(t) (1 - s(t))    reset to zero
    e(t) = (g(t) - h(t) theta) d(t)    G(t) = e(t) + h(t)               reset by subtraction

and theta receives the sum of -e(t), by subtraction also of -h(t) s(t). Only v- is kept
for it. Membranes are float32 or float64 whatever the dtype of the currents.

The work goes through memory in pieces of some samples that stay in a core's cache for
all steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from snnc.errors import unreachable
from snnc.ir.graph import Reset
from snnc.learn.surrogates import Surrogate, derivative

PIECE = 32768  # neurons of a piece for each thread: torch gives no thread less (GRAIN_SIZE)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How the neurons of a layer run."""

    steps: int
    keep: float
    reset: Reset
    surrogate: Surrogate


def integrate(current: Tensor, threshold: Tensor, rule: Rule) -> Tensor:
    """Return the spikes (T, N, ...) of neurons with the input current (T, N, ...).

    A current of (1, N, ...) is the same at every step. `threshold` broadcasts over the
    layer (...). Spikes have the current's dtype and memory format. Differentiable once, in
    the current and in the threshold; nothing is kept when nobody asks for a gradient.
    """
    if torch.is_grad_enabled() and (current.requires_grad or threshold.requires_grad):
        spikes: Tensor = _Integrate.apply(current, threshold, rule)  # type: ignore[no-untyped-call]
        return spikes
    return _scan(current, threshold, rule, None)


class _Context(FunctionCtx):
    """What the backward pass needs to know."""

    rule: Rule
    constant: bool
    dtype: torch.dtype
    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]


class _Integrate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, current: Tensor, threshold: Tensor, rule: Rule) -> Tensor:
        membranes = _like(current, rule.steps, _precise(current))
        ctx.save_for_backward(membranes, threshold)
        ctx.rule, ctx.constant, ctx.dtype = rule, len(current) == 1, current.dtype
        return _scan(current, threshold, rule, membranes)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        membranes, threshold = ctx.saved_tensors
        rows = 1 if ctx.constant else ctx.rule.steps
        to_current = _like(membranes, rows, ctx.dtype)
        to_threshold = torch.zeros_like(threshold) if ctx.needs_input_grad[1] else None
        _scan_back(gradients[0], membranes, threshold, ctx.rule, to_current, to_threshold)
        return to_current, to_threshold, None


def _scan(current: Tensor, threshold: Tensor, rule: Rule, membranes: Tensor | None) -> Tensor:
    """Return the spikes; write v- into `membranes` (T, N, ...) where given."""
    spikes = _like(current, rule.steps, current.dtype)
    for part in _pieces(current):
        x, out = current[:, part], spikes[:, part]
        v = torch.zeros_like(x[0], dtype=_precise(current))
        fired, before = torch.empty_like(v), torch.empty_like(v)
        for t in range(rule.steps):
            if membranes is not None:
                before = membranes[t, part]
            torch.add(v, x[min(t, len(x) - 1)], out=before)
            if out.dtype == v.dtype:
                fired = out[t]
                torch.ge(before, threshold, out=fired)
            else:
                out[t] = torch.ge(before, threshold, out=fired)
            match rule.reset:
                case Reset.ZERO:
                    torch.addcmul(before, before, fired, value=-1, out=v)
                case Reset.SUBTRACT:
                    torch.addcmul(before, threshold, fired, value=-1, out=v)
                case _:
                    unreachable(rule.reset)
            if rule.keep != 1:
                v.mul_(rule.keep)
    return spikes


def _scan_back(
    arriving: Tensor,
    membranes: Tensor,
    threshold: Tensor,
    rule: Rule,
    to_current: Tensor,
    to_threshold: Tensor | None,
) -> None:
    """Write the gradient of the currents; add that of the threshold."""
    for part in _pieces(membranes):
        later = torch.zeros_like(membranes[0, part])  # h(t)
        scratch, kept, total = (torch.zeros_like(later) for _ in range(3))
        summed = torch.zeros_like(later) if to_threshold is not None else None
        direct = len(to_current) > 1 and to_current.dtype == later.dtype
        for t in reversed(range(rule.steps)):
            v = membranes[t, part]
            u = v - threshold
            slope = derivative(u, rule.surrogate)
            leaving = to_current[t, part] if direct else scratch
            match rule.reset:
                case Reset.ZERO:
                    e = torch.addcmul(arriving[t, part], later, v, value=-1).mul_(slope)
                    quiet = torch.lt(u, 0, out=u)
                    torch.addcmul(e, later, quiet, out=leaving)
                case Reset.SUBTRACT:
                    e = torch.addcmul(arriving[t, part], later, threshold, value=-1).mul_(slope)
                    if summed is not None:
                        summed.addcmul_(later, torch.ge(u, 0, out=u), value=-1)
                    torch.add(e, later, out=leaving)
                case _:
                    unreachable(rule.reset)
            if summed is not None:
                summed.sub_(e)
            if len(to_current) == 1:
                total.add_(leaving)
            elif not direct:
                to_current[t, part] = leaving
            later = leaving if rule.keep == 1 else torch.mul(leaving, rule.keep, out=kept)
        if len(to_current) == 1:
            to_current[0, part] = total
        if summed is not None and to_threshold is not None:
            to_threshold += summed.sum_to_size(1, *_padded(threshold, summed)).reshape_as(threshold)


def _padded(threshold: Tensor, summed: Tensor) -> tuple[int, ...]:
    """Return the threshold's shape with a leading 1 for each dimension it lacks."""
    return (*(1,) * (summed.dim() - 1 - threshold.dim()), *threshold.shape)


def _precise(current: Tensor) -> torch.dtype:
    """Return the dtype of the membranes."""
    return torch.promote_types(current.dtype, torch.float32)


def _like(tensor: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    """Return an empty (steps, N, ...) whose merged rows have the memory format of `tensor`'s."""
    rows = tensor.flatten(0, 1)
    last = rows.dim() == 4 and rows.is_contiguous(memory_format=torch.channels_last)
    empty = torch.empty(
        (steps * tensor.shape[1], *tensor.shape[2:]),
        dtype=dtype,
        device=tensor.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
    return empty.view(steps, tensor.shape[1], *tensor.shape[2:])


def _pieces(tensor: Tensor) -> Iterator[slice]:
    """Yield the samples of (T, N, ...) in pieces that fit the cache; all at once on a GPU."""
    samples = max(1, tensor.shape[1])
    neurons = max(1, tensor[0].numel() // samples)
    size = PIECE * torch.get_num_threads() // neurons if tensor.device.type == "cpu" else samples
    for first in range(0, samples, max(1, size)):
        yield slice(first, first + max(1, size))
