"""The torch twin of a program: the same integers, and a gradient.

Forward, the twin is a simulator like the others, bit for bit equal to `snnc.semantics`.
Backward, it tells an attacker where the deployed integers can be pushed: the gradient goes
straight through the rounding of the input code and of the leak, through the membrane over
all steps and through the reset, inside the range of the membrane but not where it
saturates, and through each spike as its surrogate says.

Exactness. Everything is computed in float64, where integers up to 2**53 are exact:

* A current is a sum of integer products. `IntegerTwin` refuses a program whose currents
  could reach 2**53 (over all steps, for an accumulator), so every partial sum is exact, in
  any order, fused or not. CPU kernels for float64 multiply and add; none transforms.
* The membrane is an integer below 2**23. Its leak multiplies by less than 2**13, divides
  by a power of two and truncates, all exact. Its drive is a current times 2**6, exact
  because only the exponent changes; the sum with v is exact below 2**53 and, above it,
  far outside the range to which it is clipped.
* v - threshold is exact, and its quotient by the threshold has its sign.

float32 would need the same bound at 2**24 and, on a GPU, TF32 switched off; this twin does
not offer it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.errors import InvalidProgram, Issue, unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import IntArray, unpack
from snnc.learn.surrogates import TRIANGLE, Surrogate, spike
from snnc.semantics.encode import encode
from snnc.semantics.neuron import ALIGN, DECAY_BITS, V_MAX
from snnc.simulate.activity import trace_from_rasters
from snnc.simulate.trace import Trace

EXACT = 2**53  # integers below this are exact in float64


class IntegerTwin(nn.Module):
    """A program as a differentiable module; it has no parameters and keeps no state.

    The surrogate's u is (v - threshold) / threshold: distances are in units of the
    threshold, as in a float network whose thresholds are 1.

    Raises:
        InvalidProgram: a current could leave the integers that float64 holds exactly.
    """

    def __init__(self, program: Program, surrogate: Surrogate) -> None:
        super().__init__()
        self.program = program
        self.surrogate = surrogate
        _refuse_inexact(program, _code_peak(program.input))
        self.drives = nn.ModuleList(_Drive(population) for population in program.populations)
        self.eval()  # it has no other mode

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes), whole float64 numbers, of images (N, *shape) in [0, 1].

        Raises:
            InvalidSetting: the images have another shape or values outside [0, 1].
        """
        coding = self.program.input
        codes = torch.tensor(encode(coding, images.detach().cpu().numpy()), dtype=torch.float64)
        scaled = images.double() * coding.levels
        return self.unroll(_straight_through(codes.to(images.device), scaled))[1]

    def unroll(self, codes: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Run on codes (N, *shape) in float64; return the spikes and the logits.

        Spikes are (T, N, *shape) for each layer, in float64; logits are (N, classes).
        Layers are run in turn over all steps, which without recurrence equals lockstep.
        """
        steps = self.program.steps
        emitted = {INPUT: codes[None]}  # one step stands for all: the image is constant
        drives = dict(zip((p.name for p in self.program.populations), self.drives, strict=True))
        for layer in self.program.layers:
            drive = drives[layer.name](emitted)
            emitted[layer.name] = _fire(
                layer, drive.expand(steps, *drive.shape[1:]), self.surrogate
            )
        match self.program.readout:
            case Accumulator(name=name):
                drive = drives[name](emitted)
                logits = drive.expand(steps, *drive.shape[1:]).sum(0).flatten(1)
            case _:
                logits = emitted[self.program.layers[-1].name].sum(0).flatten(1)
        del emitted[INPUT]
        return emitted, logits


def run(program: Program, codes: IntArray, *, raster: bool) -> Trace:
    """Run a program on encoded images (samples, *shape); keep the spikes if `raster`.

    Raises:
        InvalidProgram: a current could leave the integers that float64 holds exactly.
    """
    _refuse_inexact(program, int(np.abs(codes.astype(np.int64)).max(initial=0)))
    twin = IntegerTwin(program, TRIANGLE)  # the surrogate of a forward pass means nothing
    with torch.no_grad():
        spikes, logits = twin.unroll(torch.tensor(codes, dtype=torch.float64))
    return trace_from_rasters(
        program,
        codes,
        {name: fired.transpose(0, 1).bool().numpy() for name, fired in spikes.items()},
        keep_rasters=raster,
        logits=logits.long().numpy(),
    )


def _straight_through(value: Tensor, differentiable: Tensor) -> Tensor:
    """Return `value` exactly, with the gradient of `differentiable`."""
    return value + (differentiable - differentiable.detach())  # the bracket is exactly 0


class _Drive(nn.Module):
    """What a population receives: the currents of all its synapses, plus its bias."""

    bias: Tensor

    def __init__(self, population: Layer | Accumulator) -> None:
        super().__init__()
        self.bundles = population.synapses
        self.target = population.shape
        per_channel = (-1, *[1] * (len(population.shape) - 1))
        self.register_buffer("bias", _exact(population.bias).reshape(per_channel))
        for i, bundle in enumerate(self.bundles):
            self.register_buffer(f"weight_{i}", _exact(unpack(bundle.weight)))

    def forward(self, emitted: Mapping[str, Tensor]) -> Tensor:
        """Return the drive (T, N, *target); T is 1 where nothing but the image is read."""
        total = self.bias
        for i, bundle in enumerate(self.bundles):
            source = emitted[bundle.source]
            current = _current(bundle, self.get_buffer(f"weight_{i}"), source.flatten(0, 1))
            total = total + current.reshape(*source.shape[:2], *self.target)
        return total


def _current(bundle: Synapses, weight: Tensor, x: Tensor) -> Tensor:
    """Return the current (batch, ...) that x (batch, *source) causes."""
    match bundle.kind:
        case FullyConnected():
            return F.linear(x.flatten(1), weight)
        case Convolution(stride=stride, padding=padding, groups=groups):
            return F.conv2d(x, weight, stride=stride, padding=padding, groups=groups)
        case _:
            unreachable(bundle.kind)


def _fire(layer: Layer, drive: Tensor, surrogate: Surrogate) -> Tensor:
    """Return the spikes of neurons driven by current + bias, both (T, N, *shape)."""
    v = torch.zeros_like(drive[0])
    fired = []
    for current in drive:
        v = (_leak(v, layer.decay) + current * 2**ALIGN).clamp(-V_MAX, V_MAX)
        spikes = spike((v - layer.threshold) / layer.threshold, surrogate)
        fired.append(spikes)
        match layer.reset:
            case Reset.ZERO:
                v = v - v * spikes
            case Reset.SUBTRACT:
                v = v - layer.threshold * spikes
            case _:
                unreachable(layer.reset)
    return torch.stack(fired)


def _leak(v: Tensor, decay: int) -> Tensor:
    """Return v * (4096 - decay) / 4096, rounded toward zero."""
    if decay == 0:
        return v
    kept = v * (2**DECAY_BITS - decay) / 2**DECAY_BITS
    return _straight_through(kept.trunc(), kept)


def _exact(values: IntArray) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _code_peak(coding: ImageInput) -> int:
    """Return the largest magnitude that a code can have."""
    return int(np.abs([coding.zero_point, coding.levels - coding.zero_point]).max())


def _refuse_inexact(program: Program, code_peak: int) -> None:
    """Raise `InvalidProgram` unless every current stays below 2**53, see the module."""
    issues = []
    for population in program.populations:
        reach = int(np.abs(population.bias.astype(np.int64)).max(initial=0))
        for bundle in population.synapses:
            rows = unpack(bundle.weight).reshape(bundle.weight.shape[0], -1)
            largest = int(np.abs(rows.astype(np.int64)).sum(axis=1).max(initial=0))
            reach += largest * (code_peak if bundle.source == INPUT else 1)
        if isinstance(population, Accumulator):
            reach *= program.steps
        if reach >= EXACT:
            issues.append(
                Issue(
                    population.name,
                    f"its currents may reach {reach}, past the exact integers of float64",
                    "quantize to smaller weights",
                    "overflow",
                )
            )
    if issues:
        raise InvalidProgram(issues)
