"""The torch twin of a program: the same integers, and a gradient.

Forward, the twin is a simulator like the others, bit for bit equal to `snnc.semantics`.
Backward, it tells an attacker where the deployed integers can be pushed: the gradient goes
straight through the rounding of the input code and of the leak, through the membrane over
all steps and through the reset, inside the range of the membrane but not where it
saturates, and through each spike as its surrogate says.

Exactness. A sum of integer products is exact in floats, in any order and fused or not, if
the sum of all magnitudes is: below 2**53 in float64, below 2**24 in float32. `reach` bounds
that sum for each population (over all steps, for an accumulator), and `_precision` chooses
from it: float32, which is several times faster, only where it holds everything below:

* Currents: reach < 2**24. Convolutions in float32 on a CPU are PyTorch's, which sum the
  products directly: ATen's oneDNN binding asks for `convolution_direct`, and where there is
  no oneDNN, ATen multiplies unfolded maps once NNPACK is off. Elsewhere kernels may transform
  (Winograd), so there they are matrix products of unfolded maps. Operands are
  at most 2**8, which TF32 and bfloat16 hold too, so that no setting of PyTorch's matmul
  precision matters.
* Drive: a current times 2**6, exact because only the exponent changes. Its sum with v is
  exact up to 2**24; above, it rounds far outside the range to which it is clipped.
* Membrane: an integer below 2**23, and so are what a reset leaves and v - threshold; the
  quotient of the latter by the threshold has its sign.
* Leak: v times at most 2**12 needs 35 bits, so it is computed in float64 in any case;
  dividing by a power of two and truncating are exact.

float64 holds all of this as well, with 2**53 in place of 2**24; a program that reaches
2**53 is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.errors import InvalidProgram, InvalidSetting, Issue, unreachable
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
from snnc.ir.weights import IntArray, stored, unpack
from snnc.learn.surrogates import TRIANGLE, Surrogate, spike
from snnc.semantics.encode import encode
from snnc.semantics.neuron import ALIGN, DECAY_BITS, V_MAX
from snnc.simulate.activity import trace_from_rasters
from snnc.simulate.trace import Trace

EXACT = {torch.float32: 2**24, torch.float64: 2**53}  # integers up to here are exact
OPERAND_MAX = 2**8  # integers up to here are exact in bfloat16, the coarsest matmul input
ROWS = 256  # maps unfolded at once: bounds memory, and nothing of it is kept for backward


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
        self.dtype = _precision(program)
        self.drives = nn.ModuleList(_Drive(p, self.dtype) for p in program.populations)
        self.eval()  # it has no other mode

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes), whole float64 numbers, of images (N, *shape) in [0, 1].

        Raises:
            InvalidSetting: the images have another shape or values outside [0, 1].
        """
        coding = self.program.input
        codes = torch.tensor(encode(coding, images.detach().cpu().numpy()), dtype=self.dtype)
        scaled = images.to(self.dtype) * coding.levels
        return self.unroll(_straight_through(codes.to(images.device), scaled))[1]

    def unroll(self, codes: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Run on codes (N, *shape) of the twin's dtype; return the spikes and the logits.

        Spikes are (T, N, *shape) for each layer; logits are (N, classes), in float64.
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
        return emitted, logits.double()


def run(program: Program, codes: IntArray, *, raster: bool) -> Trace:
    """Run a program on encoded images (samples, *shape); keep the spikes if `raster`.

    Raises:
        InvalidProgram: a current could leave the integers that float64 holds exactly.
        InvalidSetting: a code is none that the program's input makes.
    """
    peak = int(np.abs(codes.astype(np.int64)).max(initial=0))
    if peak > _code_peak(program.input):
        raise InvalidSetting(
            f"codes reach {peak}, those of this program reach {_code_peak(program.input)}; "
            "make them with snnc.semantics.encode"
        )
    twin = IntegerTwin(program, TRIANGLE)  # the surrogate of a forward pass means nothing
    with torch.no_grad():
        spikes, logits = twin.unroll(torch.tensor(codes, dtype=twin.dtype))
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

    def __init__(self, population: Layer | Accumulator, dtype: torch.dtype) -> None:
        super().__init__()
        self.bundles = population.synapses
        self.target = population.shape
        bias = torch.tensor(population.bias, dtype=dtype)
        self.register_buffer("bias", bias.reshape(-1, *[1] * (len(population.shape) - 1)))
        for i, bundle in enumerate(self.bundles):
            self.register_buffer(f"weight_{i}", torch.tensor(unpack(bundle.weight), dtype=dtype))

    def forward(self, emitted: Mapping[str, Tensor]) -> Tensor:
        """Return the drive (T, N, *target); T is 1 where nothing but the image is read."""
        total = self.bias
        for i, bundle in enumerate(self.bundles):
            source = emitted[bundle.source]
            current = _current(bundle, self.get_buffer(f"weight_{i}"), source.flatten(0, 1))
            total = total + current.reshape(*source.shape[:2], *self.target)
        return total


def _current(bundle: Synapses, weight: Tensor, x: Tensor) -> Tensor:
    """Return the current (batch, neurons) that x (batch, *source) causes."""
    match bundle.kind:
        case FullyConnected():
            return F.linear(x.flatten(1), weight)
        case Convolution() as kind:
            if x.device.type == "cpu" and x.dtype is torch.float32:
                with torch.backends.nnpack.flags(enabled=False):  # it would use Winograd
                    y = F.conv2d(x, weight, None, kind.stride, kind.padding, 1, kind.groups)
                return y.flatten(1)
            return torch.cat([_unfolded(part, weight, kind) for part in torch.split(x, ROWS)])
        case _:
            unreachable(bundle.kind)


def _unfolded(x: Tensor, weight: Tensor, kind: Convolution) -> Tensor:
    """Return the cross-correlation (batch, out * H * W) as one product of unfolded maps."""
    columns = F.unfold(x, weight.shape[2:], padding=kind.padding, stride=kind.stride)
    matrices = weight.flatten(1).chunk(kind.groups)
    groups = columns.chunk(kind.groups, dim=1)  # channels come first in a column
    return torch.cat([m @ c for m, c in zip(matrices, groups, strict=True)], dim=1).flatten(1)


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
    kept = v.double() * (2**DECAY_BITS - decay) / 2**DECAY_BITS
    return _straight_through(kept.trunc(), kept).to(v.dtype)


def _code_peak(coding: ImageInput) -> int:
    """Return the largest magnitude that a code can have."""
    return int(np.abs([coding.zero_point, coding.levels - coding.zero_point]).max())


def reach(program: Program, population: Layer | Accumulator) -> int:
    """Return a bound of |bias| plus all |weight * source| of any neuron.

    It covers one step of a layer, and all steps of an accumulator.
    """
    total = int(np.abs(population.bias.astype(np.int64)).max(initial=0))
    for bundle in population.synapses:
        rows = np.abs(unpack(bundle.weight).astype(np.int64)).reshape(bundle.weight.shape[0], -1)
        peak = _code_peak(program.input) if bundle.source == INPUT else 1
        total += int(rows.sum(axis=1).max(initial=0)) * peak
    return total * (program.steps if isinstance(population, Accumulator) else 1)


def _precision(program: Program) -> torch.dtype:
    """Return the narrowest float that runs the program exactly, see the module."""
    reaches = {population.name: reach(program, population) for population in program.populations}
    issues = [
        Issue(
            name,
            f"its currents may reach {reached}, past the exact integers of float64",
            "quantize to smaller weights",
            "overflow",
        )
        for name, reached in reaches.items()
        if reached >= EXACT[torch.float64]
    ]
    if issues:
        raise InvalidProgram(issues)
    operands = [_code_peak(program.input)] + [
        int(np.abs(stored(bundle.weight).astype(np.int64)).max(initial=0))
        for population in program.populations
        for bundle in population.synapses
    ]
    thresholds = [layer.threshold for layer in program.layers]
    narrow = max([*reaches.values(), *thresholds]) < EXACT[torch.float32]
    return torch.float32 if narrow and max(operands) <= OPERAND_MAX else torch.float64
