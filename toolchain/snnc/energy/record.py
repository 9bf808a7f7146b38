"""Counts and estimates as JSON. Pricing counts that were read back equals pricing the run.

`counts_to_json` keeps everything that `estimate` uses, so a stored estimate can be priced
under another profile, or under a corrected one, without running the network again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum

from snnc.energy.ann import Absent, AnnCounts, AnnLayerCounts
from snnc.energy.count import (
    QUANTITIES,
    BundleCounts,
    Counts,
    Encoding,
    NeuronCounts,
    Routing,
    Timing,
)
from snnc.energy.estimate import Estimate, estimate
from snnc.energy.prices import Profile
from snnc.energy.sampled import Sampled
from snnc.energy.table import Table
from snnc.errors import Issue, Refusal

SCHEMA = 2


class InvalidCounts(Refusal):
    """Stored counts are damaged or of another version; each issue names the place."""

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__("the stored counts are not valid", issues)


def counts_to_json(counts: Counts) -> dict[str, object]:
    """Return counts as JSON values; `counts_from_json` is the inverse."""
    return {"schema": SCHEMA, **asdict(counts, dict_factory=_fields)}


def counts_from_json(data: Mapping[str, object]) -> Counts:
    """Return the counts that `counts_to_json` wrote, equal to the originals.

    Raises:
        InvalidCounts: a key is missing or unknown, or a value is of the wrong kind.
    """
    top = Table(data, "", [])
    if (version := top.integer("schema")) != SCHEMA:
        top.report("schema", f"is {version}", f"this snnc reads {SCHEMA}", "version")
    counts = Counts(
        samples=top.integer("samples"),
        steps=top.integer("steps"),
        bundles=tuple(_bundle(each) for each in top.tables("bundles")),
        populations=tuple(_population(each) for each in top.tables("populations")),
        covariance=_covariance(top),
        ann=_ann(top.table("ann")),
        routing=_routing(top.table("routing")) if top.has("routing") else None,
        timing=_timing(top.table("timing")) if top.has("timing") else None,
        image_every_step=top.truth("image_every_step"),
    )
    top.close()
    if not (counts.samples and counts.steps):
        top.report("samples", "no samples or no steps", "count a run of at least one", "range")
    if top.issues:
        raise InvalidCounts(top.issues)
    return counts


def price(counts: Mapping[str, object], profile: Profile) -> Estimate:
    """Price stored counts (the `counts` of a stored estimate) under a profile."""
    return estimate(counts_from_json(counts), profile)


def _fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build the JSON object of a dataclass: enums become their values, tuples lists."""
    return {key: _plain(each) for key, each in pairs}


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _sampled(table: Table) -> Sampled:
    found = Sampled(mean=table.number("mean"), std=table.optional_number("std"))
    table.close()
    return found


def _bundle(table: Table) -> BundleCounts:
    bundle = BundleCounts(
        name=table.text("name"),
        population=table.text("population"),
        source=table.text("source"),
        encoding=table.choice("encoding", Encoding),
        weights=table.integer("weights"),
        stored=table.integer("stored"),
        connections=table.integer("connections"),
        events=_sampled(table.table("events")),
    )
    table.close()
    return bundle


def _population(table: Table) -> NeuronCounts:
    population = NeuronCounts(
        name=table.text("name"),
        neurons=table.integer("neurons"),
        spiking=table.truth("spiking"),
        spikes=_sampled(table.table("spikes")),
        active=_sampled(table.table("active")),
        inactive=_sampled(table.table("inactive")),
    )
    table.close()
    return population


def _covariance(top: Table) -> tuple[tuple[float, ...], ...] | None:
    if not top.has("covariance"):
        return None
    rows = top.data["covariance"]
    size = len(QUANTITIES)
    if (
        isinstance(rows, list)
        and [len(row) if isinstance(row, list) else -1 for row in rows] == [size] * size
        and all(
            isinstance(entry, int | float) and math.isfinite(entry) for r in rows for entry in r
        )
    ):
        return tuple(tuple(float(entry) for entry in row) for row in rows)
    top.report("covariance", "not a square of numbers", f"write {size} rows of {size}", "type")
    return None


def _ann(table: Table) -> AnnCounts:
    skipping = table.table("skipping")
    ann = AnnCounts(
        origin=table.text("origin"),
        layers=tuple(_ann_layer(each) for each in table.tables("layers")),
        skipping=_absent(skipping) if skipping.has("reason") else _sampled(skipping),
    )
    table.close()
    return ann


def _absent(table: Table) -> Absent:
    absent = Absent(reason=table.text("reason"))
    table.close()
    return absent


def _ann_layer(table: Table) -> AnnLayerCounts:
    layer = AnnLayerCounts(
        name=table.text("name"),
        weights=table.integer("weights"),
        stored=table.integer("stored"),
        textbook=table.integer("textbook"),
        dense=table.integer("dense"),
        skipping=_sampled(table.table("skipping")) if table.has("skipping") else None,
    )
    table.close()
    return layer


def _routing(table: Table) -> Routing:
    routing = Routing(hops_ew=table.number("hops_ew"), hops_ns=table.number("hops_ns"))
    table.close()
    return routing


def _timing(table: Table) -> Timing:
    timing = Timing(step_seconds=table.number("step_seconds"), chips=table.integer("chips"))
    table.close()
    return timing
