"""Quantities times prices, and whether their sum is a total.

    nominal = sum of count x value;  low, high = the same sum with the ends of every band

Counts and prices are not negative, so these two corners bound the sum. The band says how
well the constants are known; how much inferences differ is another question.

A sum that lacks something is not a total. When a term has a count but no published price,
or its count is unknown, the result is `Partial`, which has no attribute `total`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from snnc.energy.prices import Price, Profile, Unpublished
from snnc.energy.quantity import LINES, Line, Part, Quantity, Term
from snnc.errors import unreachable


@dataclass(frozen=True, kw_only=True)
class Band:
    """A value and the range that its constants allow, in the unit of the profile."""

    nominal: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A quantity in one place: a bundle, a population, or the chip. None is unknown, not 0."""

    quantity: Quantity
    where: str
    count: float | None


@dataclass(frozen=True, kw_only=True)
class Item:
    """One product of the sum."""

    part: Part
    term: Term
    quantity: Quantity
    where: str
    count: float
    energy: Band


@dataclass(frozen=True, kw_only=True)
class Unpriced:
    """Something that the equations have a term for and the sum lacks."""

    part: Part
    term: Term
    quantity: Quantity
    where: str
    count: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Complete:
    """Every term of the equations is in the sum."""

    total: Band


@dataclass(frozen=True, kw_only=True)
class Partial:
    """The sum of the priced terms only: a lower bound of what the equations would give."""

    sum: Band
    unpriced: tuple[Unpriced, ...]


Result = Complete | Partial


def charge(
    quantities: Iterable[Counted], profile: Profile
) -> tuple[tuple[Item, ...], tuple[Unpriced, ...]]:
    """Return the products of a profile's equations, and the terms that cannot be multiplied.

    Quantities that the equations do not contain are left out; a count of 0 needs no price.
    """
    items, unpriced = [], []
    for each in quantities:
        for line in LINES[profile.equations]:
            if line.quantity is not each.quantity or each.count == 0:
                continue
            match _charge(each, line, profile):
                case Item() as item:
                    items.append(item)
                case Unpriced() as missing:
                    unpriced.append(missing)
    return tuple(items), tuple(unpriced)


def total(items: Iterable[Item]) -> Band:
    """Add bands, corner by corner."""
    bands = [item.energy for item in items]
    return Band(
        nominal=sum(band.nominal for band in bands),
        low=sum(band.low for band in bands),
        high=sum(band.high for band in bands),
    )


def summarise(items: Iterable[Item], unpriced: Sequence[Unpriced]) -> Result:
    """Return the total, or a partial sum if anything is missing."""
    if unpriced:
        return Partial(sum=total(items), unpriced=tuple(unpriced))
    return Complete(total=total(items))


def priced(result: Result) -> Band:
    """Return the sum of what is priced, total or not; the caller says which it is."""
    match result:
        case Complete(total=band) | Partial(sum=band):
            return band
        case _:
            unreachable(result)


def times(count: float, price: Price) -> Band:
    """Multiply a count by each corner of a price."""
    return Band(nominal=count * price.value, low=count * price.low, high=count * price.high)


def price_of(line: Line, profile: Profile) -> tuple[Term, Price | Unpublished]:
    """Return the entry of the profile that prices a line: the first of its terms that has one."""
    term = next(term for term in line.terms if term in profile.prices)
    return term, profile.prices[term]


def _charge(counted: Counted, line: Line, profile: Profile) -> Item | Unpriced:
    term, price = price_of(line, profile)
    if isinstance(price, Price) and counted.count is not None:
        return Item(
            part=line.part,
            term=term,
            quantity=counted.quantity,
            where=counted.where,
            count=counted.count,
            energy=times(counted.count, price),
        )
    if isinstance(price, Unpublished):
        reason = f"no published price: {price.note}"
    else:
        reason = UNKNOWN[counted.quantity]
    return Unpriced(
        part=line.part,
        term=term,
        quantity=counted.quantity,
        where=counted.where,
        count=counted.count,
        reason=reason,
    )


UNKNOWN = {
    Quantity.HOPS_EW: "the count needs a placement of the layers on the mesh",
    Quantity.HOPS_NS: "the count needs a placement of the layers on the mesh",
    Quantity.CHIP_SECONDS: "the count needs the time of one step and the number of chips",
}  # why a run alone does not tell
