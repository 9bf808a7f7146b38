"""Robust accuracy against epsilon as a result: shares, intervals and how they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snnc.attack.curve import ChainCurves, Curve
from snnc.attack.deployed import THREAT
from snnc.attack.steps import describe
from snnc.errors import InvalidSetting
from snnc.evaluate.statistics import Proportion, proportion

Shares = tuple[Proportion, ...]  # one for each epsilon

CARRIED = "a sample broken at a smaller epsilon counts as broken at every larger one"


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How the two attackers of the integers compare, for each epsilon."""

    transfer: Shares  # right after the examples made for the float network
    adaptive: Shares  # right after the attack with the twin's gradients
    agreement: tuple[float | None, ...]  # share of examples that both name alike; None: no example

    def to_json(self) -> dict[str, object]:
        """Return the comparison as JSON."""
        return {
            "transfer": [share.to_json() for share in self.transfer],
            "adaptive": [share.to_json() for share in self.adaptive],
            "agreement": list(self.agreement),
        }


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Robust accuracy of each stage at each epsilon, and the attack that measured it."""

    attack: Mapping[str, object]  # JSON: everything but epsilon
    epsilons: tuple[float, ...]
    curves: Mapping[str, Shares]
    transfer: Transfer

    def to_json(self) -> dict[str, object]:
        """Return the "robustness" entry of metrics.json, schema 1."""
        return {
            "attack": dict(self.attack),
            "epsilons": list(self.epsilons),
            "curves": {
                name: [share.to_json() for share in shares] for name, shares in self.curves.items()
            },
            "transfer": self.transfer.to_json(),
        }


def robustness(chain: ChainCurves, twin: ChainCurves | None = None) -> Robustness:
    """Summarise a chain's curves, and next to them its normally trained twin's integers.

    Curves are "ann" (if it was attacked), "snn", "deployed" and, if given, "twin".

    Raises:
        InvalidSetting: the twin was attacked at other epsilons or in another way.
    """
    curves = {
        name: shares(chain.curves[name])
        for name in ("ann", "snn", "deployed")
        if name in chain.curves
    }
    epsilons = chain.curves["deployed"].epsilons
    if twin is not None:
        if twin.curves["deployed"].epsilons != epsilons or _how(twin) != _how(chain):
            raise InvalidSetting(
                "the twin was attacked in another way than the network; "
                "use the same attack, estimators and epsilons for both"
            )
        curves["twin"] = shares(twin.curves["deployed"])
    return Robustness(
        attack=_how(chain),
        epsilons=epsilons,
        curves=curves,
        transfer=Transfer(
            transfer=shares(chain.curves["transfer"]),
            adaptive=shares(chain.curves["adaptive"]),
            agreement=chain.agreement,
        ),
    )


def shares(curve: Curve) -> Shares:
    """Return the share of samples that still stand at each epsilon."""
    return tuple(proportion(~broken) for broken in curve.broken)


def _how(chain: ChainCurves) -> dict[str, object]:
    return {
        **describe(chain.attack),
        "estimators": ", ".join(str(estimator) for estimator in chain.estimators),
        "threat": THREAT,
        "curve": CARRIED,
    }
