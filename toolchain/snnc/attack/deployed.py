"""Attack the deployed integers.

Two attackers, and their union for each sample:

* transfer: the very examples crafted on the float network, shown to the integers;
* adaptive: the gradients of the integers' own twin, with the integers deciding at every
  iterate.

Epsilon applies to the float image, before the input quantiser of the program: two images
inside the ball may share their codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from snnc.attack.gradients import QUICK, Estimator, twins
from snnc.attack.steps import BATCH, Attack, Examples, craft
from snnc.errors import InvalidSetting
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.semantics.encode import encode
from snnc.simulate.trace import Trace

if TYPE_CHECKING:
    from snnc.simulate.fast import Prepared

THREAT = "L-infinity, on the float image in [0, 1], before the input quantiser"


class Engine(Protocol):
    """A host simulator: `fast_judge`, or `snnc.simulate.reference.run`."""

    def __call__(self, program: Program, codes: IntArray, *, raster: bool) -> Trace:
        """Run the program on codes (samples, *shape)."""


def fast_judge(program: Program, codes: IntArray, *, raster: bool) -> Trace:
    """Run the fast simulator, which counts events only with the raster.

    A judge reads predictions alone, and of a very sparse network counting takes longer than
    running it. The program of the last call stays prepared: attackers ask again and again.
    """
    from snnc.simulate.sliced.emitted import step_bytes

    prepared = _prepared(program, step_bytes(len(codes)))
    return prepared.run(codes, raster=raster, counts=raster)


@lru_cache(maxsize=1)
def _prepared(program: Program, size: int) -> Prepared:
    """Return a program ready for samples whose bits of a step fill `size` bytes."""
    from snnc.simulate import fast

    return fast.prepare(program, 8 * size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Deployed:
    """A program and the simulator that runs it."""

    program: Program
    engine: Engine

    def predict(self, images: Tensor) -> Tensor:
        """Return the classes (N,) that the integers name for float images (N, *shape)."""
        codes = encode(self.program.input, images.detach().cpu().numpy())
        trace = self.engine(self.program, codes, raster=False)
        return torch.tensor(trace.predictions, device=images.device)


@dataclass(frozen=True, kw_only=True, eq=False)
class DeployedExamples:
    """What two attackers did to the deployed integers at one epsilon. All arrays are (N,)."""

    clean: Tensor  # wrong already on the clean image
    transferred: Tensor  # wrong on the example made for the float network, or on the clean image
    adaptive: Examples  # made with the twin's gradients, judged by the integers
    agreement: float  # share of the float network's examples that both name alike

    @property
    def broken(self) -> Tensor:
        """Whether either attacker broke the sample."""
        return self.transferred | self.adaptive.broken


def attack_deployed(
    attack: Attack,
    deployed: Deployed,
    images: Tensor,
    labels: Tensor,
    *,
    crafted: Examples,
    generator: torch.Generator,
    estimators: Sequence[Estimator] = QUICK,
    batch: int = BATCH,
) -> DeployedExamples:
    """Attack the integers with examples crafted on the float network, and on their own.

    `crafted` are the float network's examples for the same samples and the same attack.

    Raises:
        InvalidSetting: `crafted` is about other samples, or leaves the attack's ball.
    """
    if crafted.images.shape != images.shape or not torch.equal(crafted.labels, labels):
        raise InvalidSetting(
            f"{len(crafted.labels)} crafted examples are not about these {len(labels)} samples; "
            "craft them on the same samples in the same order"
        )
    moved = float((crafted.images.double() - images.double()).abs().max())
    if moved > attack.eps:
        raise InvalidSetting(
            f"crafted examples are {moved:g} from their images, eps is {attack.eps:g}; "
            "craft them with the same epsilon"
        )
    clean = deployed.predict(images) != labels
    named = deployed.predict(crafted.images)
    adaptive = craft(
        attack,
        twins(deployed.program, estimators),
        images,
        labels,
        generator=generator,
        judge=deployed.predict,
        batch=batch,
    )
    return DeployedExamples(
        clean=clean,
        transferred=clean | (named != labels),
        adaptive=adaptive,
        agreement=float((named == crafted.predictions).double().mean()),
    )
