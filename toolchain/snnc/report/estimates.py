"""The energy part of metrics.json, as far as the pictures need it.

What an estimate holds is decided by `snnc.energy.report.to_json`; other keys than those
read here are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snnc.energy.prices import Unit
from snnc.energy.quantity import Part, Scope
from snnc.report.place import Place


@dataclass(frozen=True, kw_only=True)
class Amount:
    """Energy or operations of one inference, and the range that the constants allow."""

    nominal: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Item:
    """One product of the sum: something that happened somewhere, times its price."""

    part: Part
    where: str
    quantity: str
    count: float
    amount: Amount


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A term that the model has and the sum lacks."""

    part: str
    quantity: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Ordinary:
    """The ordinary network under the same prices, or the reason why it has none."""

    name: str
    arithmetic: str
    amount: Amount | None
    absent: str
    tie: float | None  # spikes per neuron at which both cost the same


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A price of the profile; `value` is None where nobody published one."""

    term: str
    value: float | None
    low: float
    high: float
    unit: str
    evidence: str
    source: str
    locator: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the literature says about the activity at which spikes pay off."""

    value: float
    meaning: str
    source: str
    verified: bool


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """The price of one inference under one profile."""

    profile: str
    title: str
    scope: Scope
    unit: Unit
    evidence: str | None
    complete: bool
    amount: Amount  # the total, or the partial sum
    sampling: tuple[float, float] | None  # 95 % interval of its mean over the images
    missing: tuple[Missing, ...]
    items: tuple[Item, ...]
    ordinary: tuple[Ordinary, ...]
    constants: tuple[Constant, ...]
    sources: Mapping[str, str]  # key -> citation, with how it was read
    not_modeled: tuple[str, ...]
    samples: int
    steps: int
    spikes_per_neuron: float
    rate: float
    qnn_bits: int
    claims: tuple[Claim, ...]


def read_estimate(place: Place) -> Estimated:
    """Read one estimate."""
    complete = "total" in place.entries()
    key = place.some(
        ("profile", "title", "scope", "unit", "weakest_evidence", "sampling", "items", "baselines")
        + ("constants", "sources", "not_modeled", "counts", "break_even")
        + (("total",) if complete else ("partial_sum", "unpriced"))
    )
    counts = key["counts"].some(("samples", "steps"))
    activity = key["break_even"].some(("spikes_per_neuron", "rate", "qnn_bits", "claims"))
    return Estimated(
        profile=key["profile"].text(),
        title=key["title"].text(),
        scope=key["scope"].choice(Scope),
        unit=key["unit"].choice(Unit),
        evidence=key["weakest_evidence"].optional(Place.text),
        complete=complete,
        amount=_amount(key["total"] if complete else key["partial_sum"]),
        sampling=key["sampling"].optional(_ends),
        missing=() if complete else key["unpriced"].items(_missing),
        items=key["items"].items(_item),
        ordinary=key["baselines"].items(_ordinary),
        constants=key["constants"].items(_constant),
        sources=dict(key["sources"].items(_source)),
        not_modeled=key["not_modeled"].items(Place.text),
        samples=counts["samples"].whole(),
        steps=counts["steps"].whole(),
        spikes_per_neuron=activity["spikes_per_neuron"].amount(),
        rate=activity["rate"].amount(),
        qnn_bits=activity["qnn_bits"].whole(),
        claims=activity["claims"].items(_claim),
    )


def _amount(place: Place) -> Amount:
    key = place.some(("nominal", "low", "high"))
    found = Amount(
        nominal=key["nominal"].amount(), low=key["low"].amount(), high=key["high"].amount()
    )
    if not found.low <= found.nominal * (1 + 1e-9) or not found.nominal <= found.high * (1 + 1e-9):
        place.fail(f"is {found.nominal:g} outside its band [{found.low:g}, {found.high:g}]")
    return found


def _ends(place: Place) -> tuple[float, float]:
    key = place.some(("low", "high"))
    return key["low"].number(), key["high"].number()


def _item(place: Place) -> Item:
    key = place.some(("part", "where", "quantity", "count"))
    return Item(
        part=key["part"].choice(Part),
        where=key["where"].text(),
        quantity=key["quantity"].text(),
        count=key["count"].amount(),
        amount=_amount(place),
    )


def _missing(place: Place) -> Missing:
    key = place.some(("part", "quantity", "reason"))
    return Missing(
        part=key["part"].text(), quantity=key["quantity"].text(), reason=key["reason"].text()
    )


def _ordinary(place: Place) -> Ordinary:
    key = place.some(("name", "arithmetic"))
    absent = place.entries().get("absent")
    tie = place.entries().get("tie_spikes_per_neuron")
    return Ordinary(
        name=key["name"].text(),
        arithmetic=key["arithmetic"].text(),
        amount=_amount(place) if absent is None else None,
        absent="" if absent is None else absent.text(),
        tie=None if tie is None else tie.optional(Place.amount),
    )


def _constant(place: Place) -> Constant:
    key = place.some(("term", "published", "note"))
    if key["published"].value is False:
        return Constant(
            term=key["term"].text(),
            value=None,
            low=0.0,
            high=0.0,
            unit="",
            evidence="",
            source="",
            locator="",
            note=key["note"].text(),
        )
    price = place.some(("value", "low", "high", "unit", "evidence", "source", "locator"))
    return Constant(
        term=key["term"].text(),
        value=price["value"].amount(),
        low=price["low"].amount(),
        high=price["high"].amount(),
        unit=price["unit"].text(),
        evidence=price["evidence"].text(),
        source=price["source"].text(),
        locator=price["locator"].text(),
        note=key["note"].text(),
    )


def _source(place: Place) -> tuple[str, str]:
    key = place.some(("key", "citation", "doi", "read"))
    doi = f", doi {key['doi'].text()}" if key["doi"].text() else ""
    return key["key"].text(), f"{key['citation'].text()}{doi} ({key['read'].text()})"


def _claim(place: Place) -> Claim:
    key = place.some(("value", "meaning", "source", "verified"))
    return Claim(
        value=key["value"].amount(),
        meaning=key["meaning"].text(),
        source=key["source"].text(),
        verified=key["verified"].value is True,
    )
