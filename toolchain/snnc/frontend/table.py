"""The table of the torch frontend: which module, function or tensor method has which rule."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from snnc.frontend import arithmetic, pooling, synapses
from snnc.frontend.sites import Map, Result, Rule, Site, array, refuse
from snnc.ir.graph import Fire, Flatten, Identity, Relu
from snnc.learn import neurons


def relu(site: Site, input: Map, inplace: bool = False) -> Result:
    """`F.relu`; tracing made sure that nobody reads what `inplace` overwrites."""
    return (Relu(),)


def relu_module(site: Site, module: nn.ReLU, input: Map) -> Result:
    """`nn.ReLU`."""
    return relu(site, input)


def fire_module(site: Site, module: neurons.Fire, input: Map) -> Result:
    """The spiking layer of `snnc`, with the threshold it runs with, not below the floor."""
    threshold = module.threshold.detach().clamp(min=neurons.THRESHOLD_FLOOR)
    return (
        Fire(
            threshold=array(threshold),
            granularity=module.granularity,
            reset=module.reset,
            keep=module.keep,
        ),
    )


def identity(site: Site, input: Map) -> Result:
    """What returns its input: `contiguous`, `clone`, `detach`."""
    return (Identity(),)


def identity_module(site: Site, module: nn.Module, input: Map) -> Result:
    """`nn.Identity`, and dropout in eval mode."""
    return (Identity(),)


def dropout(
    site: Site, input: Map, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Result:
    """`F.dropout` with training=self.training, which is False at inference."""
    if training:
        refuse("drops values at inference too", "pass training=self.training, or use nn.Dropout")
    return (Identity(),)


def reshape(site: Site, input: Map, *sizes: object, **named: object) -> Result:
    """Any change of shape that flattens (C, H, W) in order, or changes nothing."""
    first = site.node.args[1] if len(site.node.args) > 1 else None
    if isinstance(first, Sequence) and first:
        first = first[0]
    if site.node.target in FIXING and isinstance(first, int) and first >= 0:
        refuse("fixes the batch size", "write x.flatten(1)", "batch")
    if site.shape == input.shape:
        return (Identity(),)
    if site.shape == (prod(input.shape),):
        return (Flatten(),)
    refuse(f"reshapes {input.shape} to {site.shape}", "flatten all of a map: x.flatten(1)")


def flatten_module(site: Site, module: nn.Flatten, input: Map) -> Result:
    """`nn.Flatten` of all but the batch."""
    return reshape(site, input)


FIXING: frozenset[Any] = frozenset({"view", "reshape", torch.reshape})  # they name the batch size

MODULES: dict[type[nn.Module], Rule] = {
    nn.Conv2d: synapses.conv2d_module,
    nn.Linear: synapses.linear_module,
    nn.BatchNorm1d: synapses.batch_norm_module,
    nn.BatchNorm2d: synapses.batch_norm_module,
    nn.ReLU: relu_module,
    neurons.Fire: fire_module,
    nn.AvgPool2d: pooling.avg_pool2d_module,
    nn.AdaptiveAvgPool2d: pooling.adaptive_avg_pool2d_module,
    nn.Flatten: flatten_module,
    nn.Identity: identity_module,
    nn.Dropout: identity_module,
    nn.Dropout1d: identity_module,
    nn.Dropout2d: identity_module,
    nn.Dropout3d: identity_module,
    nn.AlphaDropout: identity_module,
    nn.FeatureAlphaDropout: identity_module,
}

FUNCTIONS: dict[Any, Rule] = {
    F.conv2d: synapses.conv2d,
    F.linear: synapses.linear,
    F.batch_norm: synapses.batch_norm,
    F.relu: relu,
    F.relu_: relu,
    torch.relu: relu,
    torch.relu_: relu,
    F.avg_pool2d: pooling.avg_pool2d,
    F.adaptive_avg_pool2d: pooling.adaptive_avg_pool2d,
    torch.mean: pooling.mean,
    torch.flatten: reshape,
    torch.reshape: reshape,
    F.dropout: dropout,
    F.dropout1d: dropout,
    F.dropout2d: dropout,
    F.dropout3d: dropout,
    F.alpha_dropout: dropout,
    F.feature_alpha_dropout: dropout,
    operator.add: arithmetic.add,
    operator.iadd: arithmetic.add,
    torch.add: arithmetic.add,
    operator.sub: arithmetic.subtract,
    operator.isub: arithmetic.subtract,
    torch.sub: arithmetic.subtract,
    operator.mul: arithmetic.multiply,
    operator.imul: arithmetic.multiply,
    torch.mul: arithmetic.multiply,
    operator.truediv: arithmetic.divide,
    operator.itruediv: arithmetic.divide,
    torch.div: arithmetic.divide,
}

METHODS: dict[str, Rule] = {
    "relu": relu,
    "relu_": relu,
    "mean": pooling.mean,
    "flatten": reshape,
    "view": reshape,
    "reshape": reshape,
    "contiguous": identity,
    "clone": identity,
    "detach": identity,
    "add": arithmetic.add,
    "add_": arithmetic.add,
    "sub": arithmetic.subtract,
    "sub_": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "mul_": arithmetic.multiply,
    "div": arithmetic.divide,
    "div_": arithmetic.divide,
}
