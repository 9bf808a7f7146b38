"""The torch twin of a program: the same integers, on any device, and a gradient.

Forward, the twin is a simulator like the others, bit for bit equal to `snnc.semantics`.
Backward, it tells an attacker where the deployed integers can be pushed: the gradient goes
straight through the rounding of the input code and of both leaks, through current and
membrane over all steps and through the reset, inside the range of the membrane but not where
it saturates, and through each spike as its surrogate says.

Exactness. A sum of integer products is exact in floats, in any order and fused or not, if
the sum of all magnitudes is: up to 2**53 in float64, up to 2**24 in float32. `reach` (in
`snnc.twin_bounds`) bounds that sum for each population, and `precision` chooses from it:
float32, which is several times faster, only where it holds everything below; a program that
reaches 2**53 is refused. With 2**p for the bound of the type (p = 24 or 53):

* Arriving currents: below 2**p, so neither the order of a sum nor its blocks matter, and no
  algorithm needs to be called deterministic. Only a transform (Winograd, FFT) could differ,
  for it makes fractions. Convolutions in float32 on a CPU are PyTorch's, which sum the
  products directly: ATen's oneDNN binding asks for `convolution_direct`, and where there is no
  oneDNN, ATen multiplies unfolded maps once NNPACK is off. Everywhere else (float64, CUDA) a
  convolution here is a matrix product of unfolded maps.
* Matrix products at a reduced precision, as TF32 on CUDA or bfloat16 on a CPU by
  `torch.set_float32_matmul_precision`: float32 is chosen only where every weight and every
  code is at most 2**8, a weight times a power of two, which both types hold exactly. They add
  in float32, and what they align to the largest summand, below 2**24, keeps its last bit, 1.
* Drive without a lasting current: currents plus bias, below 2**p, times 2**6: exact, because
  only the exponent changes. Its sum with v is exact up to 2**24; above, it rounds far outside
  the range to which it is clipped.
* Drive with a lasting current (`current_decay` below 4096): u + 2**6 bias, below 2**p over all
  steps, since a current of a step is at most its share of the leaked ones before:
  |u| <= 2**6 |arriving| min(steps, 4096 / current_decay).
* Membrane: an integer below 2**23, and so are what a reset leaves and v - threshold; the
  quotient of the latter by the threshold has its sign.
* Leak of an integer |x| < 2**p: x = 4096 a + b with |b| < 4096 and both of one sign, and

      toward_zero(x k / 4096) = a k + toward_zero(b k / 4096),   0 <= k < 4096

  where |a k| <= |x|, |b k| < 2**24 and the sum is at most |x|: no step needs more bits than x.

Memory. `run` takes as many samples at a time as fit a budget; counting happens on the device
too (`snnc.twin_activity`), and spikes are copied to the host only if they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn

from snnc.errors import unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import (
    FORGET,
    INPUT,
    Accumulator,
    Layer,
    Program,
)
from snnc.ir.weights import IntArray, unpack
from snnc.learn.surrogates import TRIANGLE, Surrogate, spike
from snnc.semantics.encode import check_codes, encode
from snnc.semantics.neuron import ALIGN, DECAY_BITS, V_MAX
from snnc.simulate.trace import Trace, concatenate
from snnc.twin_activity import activity
from snnc.twin_bounds import precision
from snnc.twin_currents import current, later

UNIT = 1 << ALIGN  # of current, in units of the membrane
BUDGET = 2**29  # bytes of activity that `run` holds at once
CPU = torch.device("cpu")


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
        self.dtype = precision(program)
        self.drives = nn.ModuleList(
            _Drive(population, program.steps, self.dtype) for population in program.populations
        )
        self.eval()  # it has no other mode

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes), whole float64 numbers, of images (N, *shape) in [0, 1].

        Raises:
            InvalidSetting: the images have another shape or values outside [0, 1].
        """
        coding = self.program.input
        codes = torch.tensor(encode(coding, images.detach().cpu().numpy()), dtype=self.dtype)
        scaled = images.to(self.dtype) * coding.levels
        return self.unroll(straight_through(codes.to(images.device), scaled))[1]

    def unroll(self, codes: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Run on codes (N, *shape) of the twin's dtype; return what is emitted and the logits.

        Emitted are spikes (T, N, *shape) by each layer and the codes (1, N, *shape), as INPUT;
        logits are (N, classes), in float64. Layers are run in turn over all steps, which
        without recurrence equals lockstep.
        """
        emitted = {INPUT: codes[None]}  # one step stands for all: the image is constant
        drives = dict(zip((p.name for p in self.program.populations), self.drives, strict=True))
        for layer in self.program.layers:
            drive = drives[layer.name](emitted)
            emitted[layer.name] = _fire(layer, drive, self.surrogate)
        match self.program.readout:
            case Accumulator(name=name):
                logits = drives[name](emitted).sum(0).flatten(1)
            case _:
                logits = emitted[self.program.layers[-1].name].sum(0).flatten(1)
        return emitted, logits.double()


def run(program: Program, codes: IntArray, *, raster: bool, device: torch.device = CPU) -> Trace:
    """Run a program on encoded images (samples, *shape); keep the spikes if `raster`.

    Raises:
        InvalidProgram: a current could leave the integers that float64 holds exactly.
        InvalidSetting: a code is none that the program's input makes.
    """
    check_codes(program.input, codes)
    # the surrogate of a forward pass means nothing
    twin = IntegerTwin(program, TRIANGLE).to(device)
    samples = max(1, BUDGET // _bytes_of_a_sample(program, twin.dtype))
    parts = []
    with torch.no_grad():
        for start in range(0, max(len(codes), 1), samples):
            batch = torch.tensor(codes[start : start + samples], dtype=twin.dtype, device=device)
            emitted, logits = twin.unroll(batch)
            parts.append(activity(program, emitted, logits, raster=raster))
    return concatenate(parts)


def _bytes_of_a_sample(program: Program, dtype: torch.dtype) -> int:
    """Return what a forward pass holds for one sample: all spikes, and a layer's own values.

    Those are at most six of its size (arriving, drive, spikes, twice, for its copies) at every
    step, and the flags of what it reads.
    """
    sizes = [prod(program.input.shape), *(population.size for population in program.populations)]
    return program.steps * (sum(sizes) + 6 * max(sizes)) * dtype.itemsize


def straight_through(value: Tensor, differentiable: Tensor) -> Tensor:
    """Return `value` exactly, with the gradient of `differentiable`."""
    return value + (differentiable - differentiable.detach())  # the bracket is exactly 0


class _Drive(nn.Module):
    """What moves the membrane, or adds to the logits, at each step."""

    bias: Tensor

    def __init__(self, population: Layer | Accumulator, steps: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.population = population
        self.steps = steps
        bias = torch.tensor(population.bias, dtype=dtype)
        self.register_buffer("bias", bias.reshape(-1, *[1] * (len(population.shape) - 1)))
        for i, bundle in enumerate(population.synapses):
            self.register_buffer(f"weight_{i}", torch.tensor(unpack(bundle.weight), dtype=dtype))

    def forward(self, emitted: Mapping[str, Tensor]) -> Tensor:
        """Return u + bias (T, N, *shape), of a layer in membrane units, else in current units."""
        match self.population:
            case Layer(current_decay=decay) if decay < FORGET:
                arriving = self._arriving(emitted, torch.zeros_like(self.bias)) * UNIT
                course = _lasting(self._stepwise(arriving), decay)
                return course + self.bias * UNIT
            case Layer():
                return self._stepwise(self._arriving(emitted, self.bias) * UNIT)
            case Accumulator():
                return self._stepwise(self._arriving(emitted, self.bias))
            case _:
                unreachable(self.population)

    def _arriving(self, emitted: Mapping[str, Tensor], start: Tensor) -> Tensor:
        """Return `start` plus the currents of all synapses, (T or 1, N, *shape)."""
        total = start
        for i, bundle in enumerate(self.population.synapses):
            source = emitted[bundle.source]
            caused = current(bundle, self.get_buffer(f"weight_{i}"), source.flatten(0, 1))
            caused = caused.reshape(*source.shape[:2], *self.population.shape)
            total = total + later(caused, bundle.delay, self.steps)
        return total

    def _stepwise(self, drive: Tensor) -> Tensor:
        """Return (T, N, *shape): what depends on the image alone is the same at every step."""
        return drive.expand(self.steps, *drive.shape[1:])


def _lasting(arriving: Tensor, decay: int) -> Tensor:
    """Return the current u (T, N, *shape) to which `arriving` adds at every step."""
    u = torch.zeros_like(arriving[0])
    course = []
    for more in arriving:
        u = _leak(u, decay) + more
        course.append(u)
    return torch.stack(course)


def _fire(layer: Layer, drive: Tensor, surrogate: Surrogate) -> Tensor:
    """Return the spikes of neurons whose membranes `drive` moves, both (T, N, *shape)."""
    v = torch.zeros_like(drive[0])
    fired = []
    for more in drive:
        v = (_leak(v, layer.decay) + more).clamp(-V_MAX, V_MAX)
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


def _leak(x: Tensor, decay: int) -> Tensor:
    """Return x * (4096 - decay) / 4096, rounded toward zero, of integers; see the module."""
    if decay == 0:
        return x
    one, kept = 2**DECAY_BITS, 2**DECAY_BITS - decay
    with torch.no_grad():
        whole = (x / one).trunc_()
        rest = torch.sub(x, whole, alpha=one).mul_(kept / one).trunc_()
        exact = rest.add_(whole, alpha=kept)
    return straight_through(exact, x * (kept / one)) if x.requires_grad else exact
