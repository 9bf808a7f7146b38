"""Finetuning through the integers themselves, so that weights learn what rounding does.

The network that is trained is the deployed one: every forward pass quantizes the float
weights by `snnc.passes.quantize`, at scales that stay fixed, and runs the integer program in
`snnc.twin`, bit for bit. The backward pass goes straight through the rounding (Bengio et
al., 2013, arXiv 1308.3432): a float weight receives the gradient of its integer, times the
scale. So the integers that were trained are exactly those that compiling the result gives.

What learns are the weights that are not zero, and the biases, of a prepared graph: batch norm
is folded, thresholds are 1 and stay, and the taps of a folded average pooling learn one by
one. After every step a weight is moved back to the edge of its format, where its gradient
still reaches it; a bias or a current that left its format likewise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from snnc.errors import TrainingFailed, UnknownName
from snnc.ir.graph import Conv2d, Graph, Linear, Op
from snnc.ir.program import INPUT, Accumulator, Program
from snnc.ir.weights import (
    Csr,
    FloatArray,
    FloatWeight,
    floats,
    freeze,
    row_magnitudes,
    row_of_each,
    sparse,
    stored,
    unpack,
)
from snnc.learn.fit import Subject, Training, fit
from snnc.learn.stage import Context, TrainingData
from snnc.learn.surrogates import Surrogate
from snnc.passes.image import ImageCoding, absorb, image_coding
from snnc.passes.numbers import Bits, Numbers
from snnc.passes.populations import FloatBundle, FloatPopulation, populations
from snnc.passes.quantize import quantize
from snnc.passes.rewrite import with_ops
from snnc.passes.scale import Exponents, Formats, formats, integer_weights
from snnc.twin import IntegerTwin, straight_through

INSIDE = 0.99  # of its limit, where a current that left its format is put
ROUNDS = 1500  # of moving currents: after 1034 even 127 * 2**7 is below 1/2, at 0.99 each


@dataclass(frozen=True, kw_only=True, eq=False)
class Deployment:
    """How floats become integers: the arguments of `quantize`, all scales given."""

    numbers: Numbers
    levels: int
    bits: Bits | None
    scales: Mapping[str, float]
    exponents: Exponents  # of every bundle: they stay, however its weights grow or shrink

    def program(self, prepared: Graph) -> Program:
        """Return the integers of a prepared graph."""
        return quantize(
            prepared,
            self.numbers,
            levels=self.levels,
            bits=self.bits,
            scales=self.scales,
            exponents=self.exponents,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """A finetuned network. `deployment.program(graph)` is `program`."""

    graph: Graph  # prepared
    program: Program
    metrics: Mapping[str, float]


def finetune_integers(
    prepared: Graph,
    deployment: Deployment,
    settings: Training,
    data: TrainingData,
    context: Context,
    *,
    surrogate: Surrogate,
) -> Tuned:
    """Return the network of the lowest validation loss that training its integers found.

    `prepared` is a graph after PREPARE with the biases, and `deployment` holds the scales,
    that `snnc.quantization.search.search` found (or any others for all layers). A weight that
    is zero on the way in is zero on the way out.

    Raises:
        InvalidGraph: the graph cannot become a program at these scales, or training made all
            weights of a layer round to 0.
        TrainingFailed: a loss is not finite, or see `IntegerNetwork.restore`.
    """
    network = IntegerNetwork(prepared, deployment, surrogate).to(context.machine.device)
    network.restore()
    subject = Subject(
        network=network,
        parameters=tuple(network.parameters()),
        penalty=None,
        after_step=network.restore,
        acceptable=lambda: True,
    )
    metrics = fit(subject, settings, data, context)
    graph = network.graph()
    return Tuned(graph=graph, program=deployment.program(graph), metrics=metrics)


class IntegerNetwork(nn.Module):
    """A prepared graph whose forward pass runs its integers, with gradients for its floats.

    Parameters are float64: of each bundle of synapses the weights that are not zero, of each
    population the bias of its first bundle.

    Raises:
        UnknownName: the deployment has no scale for a layer.
    """

    def __init__(self, prepared: Graph, deployment: Deployment, surrogate: Surrogate) -> None:
        super().__init__()
        self.prepared = prepared
        self.deployment = deployment
        self.surrogate = surrogate
        coding = image_coding(prepared, deployment.levels)
        self.places = tuple(
            _place(population, deployment, coding, prepared.steps)
            for population in populations(prepared, coding)
        )
        self.weights = nn.ParameterList(
            nn.Parameter(torch.tensor(_weights(prepared[bundle.name].op).data))
            for place in self.places
            for bundle in place.bundles
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.tensor(_op(prepared[place.bundles[0].name].op).bias))
            for place in self.places
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes), float64, of images (N, *shape) in [0, 1].

        They are those of the program in the unit of the float graph: means over the steps.
        """
        program = self.deployment.program(self.graph())
        twin = IntegerTwin(program, self.surrogate).to(images.device)
        integers = dict(twin.named_buffers())
        weights = iter(self.weights)
        for i, (place, bias) in enumerate(zip(self.places, self.biases, strict=True)):
            name = f"drives.{i}.bias"
            whole = integers[name]
            moving = (bias * place.scale).reshape(whole.shape).to(whole.dtype)
            integers[name] = straight_through(whole, moving)
            for j, bundle in enumerate(place.bundles):
                name = f"drives.{i}.weight_{j}"
                whole = integers[name]
                moving = next(weights) * bundle.gain.to(images.device)
                dense = whole.new_zeros(whole.numel())
                dense = dense.index_put((bundle.index.to(images.device),), moving.to(whole.dtype))
                integers[name] = straight_through(whole, dense.reshape(whole.shape))
        logits: Tensor = functional_call(twin, integers, (images,))
        unit = program.readout.scale if isinstance(program.readout, Accumulator) else 1.0
        return logits / (unit * program.steps)

    def graph(self) -> Graph:
        """Return the prepared graph with the present weights and biases."""
        ops: dict[str, Op] = {}
        weights = iter(self.weights)
        for place, bias in zip(self.places, self.biases, strict=True):
            for j, bundle in enumerate(place.bundles):
                op = _op(self.prepared[bundle.name].op)
                data = freeze(next(weights).detach().cpu().numpy(), np.float64)
                weight: FloatWeight = replace(_weights(op), data=data)
                shift = floats(bias.detach().cpu().numpy()) if j == 0 else op.bias
                ops[bundle.name] = replace(op, weight=weight, bias=shift)
        return with_ops(self.prepared, ops)

    @torch.no_grad()
    def restore(self) -> None:
        """Move every weight, bias and current that left its format back to the edge, in place.

        A bias gives way before the weights beside it: they keep at least 1 - `INSIDE` of the
        current.

        Raises:
            TrainingFailed: a current is still too large after `ROUNDS` rounds.
        """
        weights = iter(self.weights)
        mine = [[next(weights) for _ in place.bundles] for place in self.places]
        for place, values in zip(self.places, mine, strict=True):
            for bundle, value in zip(place.bundles, values, strict=True):
                limit = bundle.most / bundle.gain.to(value.device).abs()
                value.clamp_(min=-limit, max=limit)
        for _ in range(ROUNDS):  # rounding may push what was just moved over the edge again
            if not self._move_currents(mine):
                return
        raise TrainingFailed(
            f"after {ROUNDS} rounds some current is still too large for its format; train with a "
            "lower rate"
        )

    def _move_currents(self, weights: Sequence[Sequence[Tensor]]) -> bool:
        """Move biases, then weights of rows whose current is too large; say if there was one."""
        moved = False
        for population, place, values, bias in zip(
            self._populations(), self.places, weights, self.biases, strict=True
        ):
            shift, factor = _inside(population, place)
            bias.add_(torch.tensor(shift).to(bias.device))
            shrink = torch.tensor(factor)
            for bundle, value in zip(place.bundles, values, strict=True):
                value.mul_(shrink[bundle.row].to(value.device))
            moved |= bool((shrink < 1).any())
        return moved

    def _populations(self) -> tuple[FloatPopulation, ...]:
        coding = image_coding(self.prepared, self.deployment.levels)
        return populations(self.graph(), coding)


@dataclass(frozen=True, kw_only=True, eq=False)
class _BundlePlace:
    """Where the trained weights of a bundle stand in the dense array of integers."""

    name: str
    index: Tensor  # (trained,) in the flattened array
    row: Tensor  # (trained,) output
    gain: Tensor  # (trained,) integer units for one unit of the float weight
    exponent: int  # of the power of two of which its integers are multiples
    most: int  # integer units that a weight can have


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """A population in training."""

    scale: float
    limits: Formats
    bundles: tuple[_BundlePlace, ...]


def _place(
    population: FloatPopulation, deployment: Deployment, coding: ImageCoding, steps: int
) -> _Place:
    if population.name not in deployment.scales:
        raise UnknownName("scale for layer", population.name, deployment.scales)
    scale = deployment.scales[population.name]
    width = None if deployment.bits is None else deployment.bits.of(population.name)
    limits = formats(population, deployment.numbers, bits=width, steps=steps)
    return _Place(
        scale=scale,
        limits=limits,
        bundles=tuple(
            _bundle_place(bundle, scale, deployment.exponents[bundle.name], limits, coding)
            for bundle in population.bundles
        ),
    )


def _bundle_place(
    bundle: FloatBundle, scale: float, exponent: int, limits: Formats, coding: ImageCoding
) -> _BundlePlace:
    op = _op(bundle.op)
    weight = _weights(op)
    row = row_of_each(weight)
    gain = np.full(len(weight.data), scale)
    if bundle.source == INPUT:
        ones = replace(op, weight=replace(weight, data=floats(np.ones(len(weight.data)))))
        gain = gain * stored(absorb(ones, coding)[0])
    return _BundlePlace(
        name=bundle.name,
        index=torch.tensor(row * prod(weight.shape[1:]) + weight.indices),
        row=torch.tensor(row),
        gain=torch.tensor(gain),
        exponent=exponent,
        most=limits.weight_max << exponent,
    )


def _inside(population: FloatPopulation, place: _Place) -> tuple[FloatArray, FloatArray]:
    """Return what brings the largest current of each output into the format.

    That is what to add to its bias, and the factor of its weights.
    """
    whole = population.bias * place.scale
    current = sum(
        row_magnitudes(integer_weights(bundle, place.limits, place.scale, where.exponent))
        * bundle.peak
        for bundle, where in zip(population.bundles, place.bundles, strict=True)
    )
    most = place.limits.current_max
    limit = min(place.limits.bias_max, most)
    fits = np.clip(whole, -limit, limit)
    over = current + np.abs(np.rint(fits)) > most
    room = np.floor(INSIDE * most)  # for the bias of a row whose current is too large
    fits = np.where(over, np.clip(fits, -room, room), fits)
    factor = INSIDE * (most - np.abs(np.rint(fits))) / np.where(over, current, 1.0)
    return np.asarray((fits - whole) / place.scale), np.asarray(np.where(over, factor, 1.0))


def _op(op: Op) -> Conv2d | Linear:
    assert isinstance(op, Conv2d | Linear)  # noqa: S101 - what populations hold
    return op


def _weights(op: Op) -> Csr[np.float64]:
    """Return the weights that are not zero."""
    return sparse(unpack(_op(op).weight))
