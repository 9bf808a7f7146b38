"""Accuracy against epsilon.

A sample broken at a smaller epsilon is broken at every larger one, because its example is
still admissible; so `Curve.broken` carries broken samples forward, and `chain_curves` does
not attack them again. A curve that falls is therefore no evidence of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from snnc.attack.deployed import Deployed, attack_deployed
from snnc.attack.gradients import QUICK, Estimator, plain, spiking
from snnc.attack.steps import BATCH, Attack, at, craft
from snnc.errors import InvalidSetting
from snnc.learn.spiking import SpikingNetwork

BoolArray = npt.NDArray[np.bool_]
Strike = Callable[[float], Mapping[str, Tensor]]  # epsilon -> for each curve, who broke (N,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Which samples broke at which epsilon."""

    epsilons: tuple[float, ...]  # ascending
    measured: BoolArray  # (epsilons, samples), as the attack reported them

    @property
    def broken(self) -> BoolArray:
        """Whether a sample broke at that epsilon or a smaller one: (epsilons, samples)."""
        return np.logical_or.accumulate(self.measured, axis=0)


def sweep(strike: Strike, epsilons: Sequence[float]) -> dict[str, Curve]:
    """Strike at each epsilon, in ascending order; return one curve for each name.

    Raises:
        InvalidSetting: no epsilon, or they do not ascend.
    """
    if not epsilons or any(b <= a for a, b in zip(epsilons, epsilons[1:], strict=False)):
        raise InvalidSetting(f"epsilons are {list(epsilons)}; list at least one, ascending")
    rows = [{name: _array(broken) for name, broken in strike(eps).items()} for eps in epsilons]
    return {
        name: Curve(epsilons=tuple(epsilons), measured=np.stack([row[name] for row in rows]))
        for name in rows[0]
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """One network at its three stages. Leave out the ANN to attack only what it became."""

    ann: nn.Module | None
    snn: SpikingNetwork
    deployed: Deployed


@dataclass(frozen=True, kw_only=True, eq=False)
class ChainCurves:
    """The curves of a chain.

    `curves` has "ann" (if there is one), "snn", "deployed" (worst of both attackers),
    "transfer" and "adaptive" (the two attackers of the integers, see `attack.deployed`).
    """

    curves: Mapping[str, Curve]
    agreement: tuple[float | None, ...]  # of those attacked, see DeployedExamples; None: nobody
    attack: Attack
    estimators: tuple[Estimator, ...] = field(default=QUICK)


def chain_curves(
    chain: Chain,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack,
    epsilons: Sequence[float],
    generator: torch.Generator,
    estimators: Sequence[Estimator] = QUICK,
    batch: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> ChainCurves:
    """Attack every stage of a chain at each epsilon, each with its own gradients.

    The epsilon of `attack` is ignored; `progress` is called with (done, total) epsilons.

    Raises:
        InvalidSetting: as `sweep` and `craft`.
    """
    agreement: list[float | None] = []
    broken: dict[str, Tensor] = {}

    def strike(eps: float) -> dict[str, Tensor]:
        here = at(attack, eps)
        if chain.ann is not None:
            rows = _standing(broken, ("ann",), labels)
            sources = plain(chain.ann)
            if len(rows):
                found = craft(
                    here, sources, images[rows], labels[rows], generator=generator, batch=batch
                )
                _note(broken, rows, labels, ann=found.broken)
        rows = _standing(broken, ("snn", "transfer", "adaptive"), labels)
        if not len(rows):
            agreement.append(None)
        else:
            x, y = images[rows], labels[rows]
            sources_snn = spiking(chain.snn, estimators)
            crafted = craft(here, sources_snn, x, y, generator=generator, batch=batch)
            integers = attack_deployed(
                here,
                chain.deployed,
                x,
                y,
                crafted=crafted,
                generator=generator,
                estimators=estimators,
                batch=batch,
            )
            agreement.append(integers.agreement)
            _note(
                broken,
                rows,
                labels,
                snn=crafted.broken,
                deployed=integers.broken,
                transfer=integers.transferred,
                adaptive=integers.adaptive.broken,
            )
        if progress is not None:
            progress(len(agreement), len(epsilons))
        return {name: each.clone() for name, each in broken.items()}

    curves = sweep(strike, epsilons)
    return ChainCurves(
        curves=curves,
        agreement=tuple(agreement),
        attack=attack,
        estimators=tuple(estimators),
    )


def _standing(broken: Mapping[str, Tensor], names: Sequence[str], labels: Tensor) -> Tensor:
    """Return the rows that at least one of the attacks has not broken yet."""
    none = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    beaten = torch.stack([broken.get(name, none) for name in names]).all(dim=0)
    return torch.nonzero(~beaten).flatten()


def _note(broken: dict[str, Tensor], rows: Tensor, labels: Tensor, **found: Tensor) -> None:
    """Add who broke among `rows` to what is known of all samples."""
    for name, new in found.items():
        known = broken.get(name, torch.zeros(len(labels), dtype=torch.bool, device=labels.device))
        broken[name] = known.index_put((rows,), known[rows] | new)


def _array(broken: Tensor) -> BoolArray:
    return broken.cpu().numpy()
