"""Ranking estimates, where that means something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snnc.energy.charge import Band, Complete, Partial, priced
from snnc.energy.estimate import Estimate
from snnc.errors import SnncError


class NotComparable(SnncError):
    """The estimates do not measure the same thing, so that no order of them is true."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One place of a ranking. `complete` is False where partial sums were ranked."""

    label: str
    energy: Band
    ratio: float | None  # to the first place; None if that one is 0
    complete: bool


def compare(estimates: Mapping[str, Estimate]) -> tuple[Ranked, ...]:
    """Order labelled estimates from the least to the most; equal ones keep their order.

    Partial sums are ranked only among estimates of one profile that lack the same terms:
    then what is missing is missing from all.

    Raises:
        NotComparable: scopes or units differ, or sums lack different terms.
    """
    _check_scope(estimates)
    _check_missing(estimates)
    ordered = sorted(estimates.items(), key=lambda pair: priced(pair[1].result).nominal)
    least = priced(ordered[0][1].result).nominal if ordered else 0.0
    return tuple(
        Ranked(
            label=label,
            energy=priced(each.result),
            ratio=priced(each.result).nominal / least if least else None,
            complete=isinstance(each.result, Complete),
        )
        for label, each in ordered
    )


def _check_scope(estimates: Mapping[str, Estimate]) -> None:
    scopes = {
        label: f"{each.profile.scope.value} in {each.profile.unit.value}"
        for label, each in estimates.items()
    }
    if len(set(scopes.values())) > 1:
        listed = "; ".join(f"{label} is {scope}" for label, scope in scopes.items())
        raise NotComparable(
            f"cannot rank estimates of different scope: {listed}; "
            "price all of them under profiles of one scope and unit"
        )


def _check_missing(estimates: Mapping[str, Estimate]) -> None:
    missing = {label: _missing(each) for label, each in estimates.items()}
    kinds = {lacks for lacks in missing.values()}
    profiles = {each.profile.id for each in estimates.values()}
    if len(kinds) > 1 or (len(profiles) > 1 and any(kinds)):
        listed = "; ".join(
            f"{label} lacks {', '.join(sorted(lacks)) or 'nothing'}"
            for label, lacks in missing.items()
        )
        raise NotComparable(
            f"cannot rank partial sums that lack different terms: {listed}; "
            "price all of them under one profile"
        )


def _missing(each: Estimate) -> frozenset[str]:
    """Return the names of the terms that a result lacks."""
    if isinstance(each.result, Partial):
        return frozenset(missing.term.value for missing in each.result.unpriced)
    return frozenset()
